"""A party's model parts in its own node's store: written atomically, read only when their hash is right."""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ftl.consortium import Node
from ftl.errors import FederationError, RegistryError
from ftl.federation.run import PartPointer

PART, ENCODER, MANIFEST = "part.json", "encoder.json", "manifest.json"
PRIVATE = "private"
"""Folder beside the model part, for what only its owner may see."""
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")


class PartManifest(msgspec.Struct, frozen=True):
    """What a stored model part is. Stays at the node.

    Attributes:
        run_id, recipe, seed: of the run that trained it.
        party: the owner.
        sha256: of `part.json` followed by `encoder.json`, hexadecimal.
        columns: the p columns that the part takes, in order.
        table_version: Delta version of the validated features table that it was trained on.
    """

    run_id: str
    recipe: str
    seed: int
    party: str
    sha256: str
    columns: list[str]
    table_version: int | None = None


class StoredPart(msgspec.Struct, frozen=True):
    """A model part as read from the store.

    Attributes:
        manifest: what it is.
        part: the recipe's bytes.
        encoder: the feature encoder's bytes.
    """

    manifest: PartManifest
    part: bytes
    encoder: bytes


def keep_part(node: Node, manifest: PartManifest, part: bytes, encoder: bytes) -> PartPointer:
    """Write a model part; the manifest comes last, so that a part without one does not count.

    Args:
        node: the owner.
        manifest: with any `sha256`; the right one is filled in.
        part: the recipe's bytes.
        encoder: the feature encoder's bytes.

    Returns:
        where the part is, without its content.
    """
    digest = part_sha256(part, encoder)
    folder = node.model(manifest.run_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = msgspec.structs.replace(manifest, sha256=digest)
    write_atomically(folder / PART, part)
    write_atomically(folder / ENCODER, encoder)
    write_atomically(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(written), indent=1))
    return PartPointer(node.name, digest, len(part) + len(encoder), len(manifest.columns), manifest.table_version)


def keep_private(node: Node, run_id: str, files: Mapping[str, bytes]) -> None:
    """Write what a recipe leaves for the party's own eyes beside its model part, readable by the owner only.

    Args:
        node: the owner.
        run_id: of the run.
        files: plain file name to content.

    Raises:
        FederationError: a name could lead out of the folder.
    """
    folder = node.model(run_id) / PRIVATE
    for name, content in files.items():
        if not FILE_NAME.fullmatch(name):
            raise FederationError(
                f"{name!r} cannot name a file of a recipe.", cure="Use letters, digits, '_', '-', '.'."
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / name, content)


def read_part(node: Node, run_id: str, sha256: str | None = None) -> StoredPart:
    """Read a model part and check its hash.

    Args:
        node: the owner.
        run_id: of the run that trained it.
        sha256: as the bundle says; the stored manifest's own when None.

    Returns:
        the part.

    Raises:
        RegistryError: there is none, it cannot be read, or its content is not what was stored.
    """
    folder = node.model(run_id)
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=PartManifest)
        stored = StoredPart(manifest, (folder / PART).read_bytes(), (folder / ENCODER).read_bytes())
    except (OSError, msgspec.MsgspecError) as exc:
        raise RegistryError(
            f"{node.name} has no readable model part of run {run_id} in {folder}.",
            cure="Train again, or promote a version whose parts are still there.",
        ) from exc
    found, expected = part_sha256(stored.part, stored.encoder), sha256 or manifest.sha256
    if found != expected:
        raise RegistryError(
            f"The model part of run {run_id} at {node.name} has sha256 {found[:12]}…, expected {expected[:12]}….",
            cure=f"Someone changed {folder}. Restore it from a backup, or train again.",
        )
    return stored


def part_sha256(part: bytes, encoder: bytes) -> str:
    """Hash that ties a part and its encoder, hexadecimal."""
    return hashlib.sha256(part + encoder).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step; a reader sees the old content or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
