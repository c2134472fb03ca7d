"""From what a version was made: the validated tables that went in, the code that ran, and the packages it ran with."""

import hashlib
import subprocess
from pathlib import Path

import msgspec

import ftl
from ftl.federation import Result

LINEAGE_FILE = "lineage.json"
LOCK = "requirements.lock"
GIT_SECONDS = 10


class Input(msgspec.Struct, frozen=True):
    """What one party brought.

    Attributes:
        table: in the party's validated lake.
        delta_version: of that table as it was trained on; None where the node did not report one.
        part_sha256: hex digest of the party's share of the model.
    """

    table: str
    delta_version: int | None
    part_sha256: str


class Lineage(msgspec.Struct, frozen=True):
    """Origin of a version.

    Attributes:
        inputs: party to what it brought.
        ftl_version: of the package.
        git_commit: of the checkout that registered it; None of an installed wheel.
        lock_sha256: hex digest of the lock file; None where there is none beside the code.
    """

    inputs: dict[str, Input]
    ftl_version: str
    git_commit: str | None
    lock_sha256: str | None


def lineage(result: Result, tables: dict[str, str]) -> Lineage:
    """The origin of a finished run's model.

    Args:
        result: what the federation said.
        tables: party to the name of the table of its features.
    """
    root = Path(ftl.__file__).parent.parent
    inputs = {part.party: Input(tables[part.party], part.table_version, part.sha256) for part in result.parts}
    return Lineage(inputs, ftl.__version__, git_commit(root), lock_sha256(root))


def git_commit(root: Path) -> str | None:
    """The commit of a checkout, 40 hex digits, with ``+changes`` where files differ from it; None of no checkout.

    Args:
        root: of the checkout.
    """
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    return f"{commit}+changes" if commit and _git(root, "status", "--porcelain", "-uno") else commit


def lock_sha256(root: Path) -> str | None:
    """Hex digest of the lock file, None where there is none.

    Args:
        root: of the checkout.
    """
    path = root / LOCK
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        said = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
