"""Outcomes from the lender's own synced table, told to the gateway as they become known or are corrected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftl.client import Client
from ftl.collect import CHANGE, Lake, difference
from ftl.consortium import Folder, Node
from ftl.errors import ConsortiumError, LakeError
from ftl.features.label import equal

ROWS_AT_ONCE = 10_000
"""Outcomes of one request; the gateway takes no more."""


def tell_outcomes(folder: Folder, client: Client) -> int:
    """Tell what has changed in the active party's published labels since the last time.

    Called at the active party. What was told is noted there after the gateway has taken it, so a call that failed is
    repeated by the next one; an outcome that is told twice counts once.

    Args:
        folder: of the consortium; its label is of kind `binary`.
        client: may tell outcomes.

    Returns:
        how many outcomes were told.

    Raises:
        ConsortiumError: the label is no outcome that is bad or good.
        LakeError: nothing has been published yet.
        ScoringError, ServiceError: as :meth:`ftl.client.Client.tell`.
    """
    node = folder.node(folder.consortium.active)
    label = node.party.label
    if label is None or label.kind != "binary":
        raise ConsortiumError(
            f"{node.name}: only a label of kind 'binary' is an outcome.", cure="Tell outcomes with POST /v1/outcomes."
        )
    table = node.party.features.table
    newest = Lake(node.validated(table)).version
    if newest is None:
        raise LakeError(f"{node.name}.{table} has not been published.", cure="Run `ftl collect` and `ftl quality`.")
    note = node.home / "outcomes" / f"{table}.json"
    rows = _changed(node, table, _told(note), newest)
    outcomes = list(_outcomes(rows, folder.consortium.identifiers, label.column, label.positive))
    for first in range(0, len(outcomes), ROWS_AT_ONCE):
        client.tell(outcomes[first : first + ROWS_AT_ONCE])
    note.parent.mkdir(parents=True, exist_ok=True)
    draft = note.with_suffix(".part")
    draft.write_text(json.dumps({"version": newest}), encoding="utf-8")
    draft.replace(note)
    return len(outcomes)


def _told(note: Path) -> int | None:
    """The version that the gateway knows; None before the first time."""
    return int(json.loads(note.read_text(encoding="utf-8"))["version"]) if note.exists() else None


def _changed(node: Node, table: str, known: int | None, newest: int) -> pa.Table:
    """Rows with :data:`~ftl.collect.CHANGE`; all of them where the known version is none of this table."""
    path = node.validated(table)
    key = node.party.tables[table].key or node.consortium.identifiers
    if known is not None and Lake(path).oldest <= known <= newest:
        return difference(Lake(path, known), Lake(path, newest), key)
    rows = Lake(path, newest).read()
    return rows.append_column(CHANGE, pa.repeat(pa.scalar("insert"), rows.num_rows))


def _outcomes(
    rows: pa.Table, identifiers: tuple[str, ...], column: str, positive: Any
) -> Iterator[dict[str, str | None]]:
    """One for each row; None takes back what is no longer known."""
    values = rows.column(column).combine_chunks()
    bad = equal(values, positive)
    known = pc.and_(pc.is_valid(values), pc.not_equal(rows.column(CHANGE).combine_chunks(), "delete")).to_pylist()
    people = rows.select(identifiers).to_pylist()
    for person, is_bad, is_known in zip(people, bad.tolist(), known, strict=True):
        if None in person.values():  # nobody can have been scored under it
            continue
        outcome = ("bad" if is_bad else "good") if is_known else None
        yield {**{name: str(value) for name, value in person.items()}, "outcome": outcome}
