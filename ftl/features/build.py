"""A party's validated table becomes its frame: features, identifiers and, at the active party, label and holdout."""

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.errors import FeatureError
from ftl.features.encoder import Encoder, texts
from ftl.features.frame import Frame

if TYPE_CHECKING:  # scoring needs the encoder, but neither the lake nor the consortium's file
    from ftl.consortium import Node


def build(node: "Node", seed: int) -> tuple[Frame, Encoder]:
    """Read the party's validated feature table and encode it.

    People stand in the order of their identifiers, so that a rewrite of the lake's files changes no result.

    Args:
        node: the party's own node.
        seed: draws the holdout when no column says who belongs to it.

    Raises:
        FeatureError: no rows, an unknown column, an identifier that is absent or not unique, or a label that is absent
            or has one class.
    """
    from ftl.quality import read_validated

    features = node.party.features
    table = read_validated(node, features.table)
    source = f"party {node.name!r}, table {features.table!r}"
    if table.num_rows == 0:
        raise FeatureError(f"{source} has no validated rows.", cure="Collect and check the table first.")
    _require_columns(source, table, (*node.consortium.identifiers, *features.columns))
    ids = _identifiers(source, table, node.consortium.identifiers)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    table, ids = table.take(pa.array(order)), tuple(ids[row] for row in order)
    encoder = Encoder.fit(table, features.columns, features.categorical)
    label = _label(source, node, table)
    holdout = None if label is None else _holdout(source, node, table, label, seed)
    frame = Frame(node.name, encoder.columns, encoder.transform(table), dict(encoder.categories), ids, label, holdout)
    return frame, encoder


def _identifiers(source: str, table: pa.Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    parts = [texts(table.column(column)) for column in columns]
    absent = sum(part.null_count for part in parts)
    if absent:
        raise FeatureError(
            f"{source}: {absent} rows have no value in an identifier column ({', '.join(columns)}).",
            cure="Let the table's suite quarantine them.",
        )
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "|")
    surplus = len(joined) - pc.count_distinct(joined).as_py()
    if surplus:
        raise FeatureError(
            f"{source}: the identifier ({', '.join(columns)}) is not unique, {surplus} rows repeat one.",
            cure="Keep one row per person: correct the source, or set the table's key to the identifier columns.",
        )
    return tuple(joined.to_pylist())


def _label(source: str, node: "Node", table: pa.Table) -> NDArray[np.float64] | None:
    declared = node.party.label
    if node.party.role == "passive":
        return None
    if declared is None:
        raise FeatureError(f"party {node.name!r} is active but has no label.", cure="Give it a `label` section.")
    _require_columns(source, table, (declared.column,))
    values = table.column(declared.column).combine_chunks()
    positive = _is(values, declared.positive)
    label = np.where(pc.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False), np.nan, positive)
    known = label[~np.isnan(label)]
    if not len(known):
        raise FeatureError(f"{source}: no row has a label ({declared.column!r}).", cure="Check the mapping.")
    if len(np.unique(known)) == 1:
        found = ", ".join(sorted(str(v) for v in pc.unique(texts(values)).to_pylist() if v is not None)[:5])
        raise FeatureError(
            f"{source}: label {declared.column!r} has one class; found {found}, of which {declared.positive!r} is bad.",
            cure="Correct `label.positive`, or collect people of both classes.",
        )
    return np.asarray(label, dtype=np.float64)


def _holdout(source: str, node: "Node", table: pa.Table, label: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """bool, shape (n,): as a column says, or a stratified draw from the labelled rows."""
    declared = node.consortium.training.holdout
    if declared.column is not None:
        _require_columns(source, table, (declared.column,))
        return _is(table.column(declared.column).combine_chunks(), declared.value)
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(label), dtype=bool)
    for value in (0.0, 1.0):
        rows = np.flatnonzero(label == value)
        chosen[generator.permutation(rows)[: round(len(rows) * declared.fraction)]] = True
    return chosen


def _is(values: pa.Array, wanted: Any) -> NDArray[np.bool_]:
    """bool, shape (n,): which values equal `wanted`, whatever type each has."""
    if pa.types.is_boolean(values.type) and wanted in (0, 1):
        wanted = bool(wanted)
    text = texts(pa.array([wanted]))[0]
    equal = pc.fill_null(pc.equal(texts(values), text), fill_value=False)
    return np.asarray(equal.to_numpy(zero_copy_only=False), dtype=bool)


def _require_columns(source: str, table: pa.Table, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in table.column_names:
            near = difflib.get_close_matches(column, table.column_names, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise FeatureError(
                f"{source} has no column {column!r}.", cure=f"{hint}It has {', '.join(table.column_names)}."
            )
