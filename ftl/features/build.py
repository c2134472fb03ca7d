"""A party's validated table becomes its frame: features, identifiers and, at the active party, label and holdout."""

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.errors import FeatureError
from ftl.features.encoder import Encoder
from ftl.features.frame import Frame
from ftl.features.identifiers import first_names, read_identifiers
from ftl.features.label import draw_holdout, read_label, read_weight

if TYPE_CHECKING:  # scoring needs the encoder, but neither the lake nor the consortium's file
    from ftl.consortium import Node
    from ftl.consortium.model import Features


def build(node: "Node", seed: int) -> tuple[Frame, Encoder]:
    """Read the party's validated feature table and encode it.

    People stand in the order of their identifiers, so that a rewrite of the lake's files changes no result.

    Args:
        node: the party's own node.
        seed: draws the holdout when no column says who belongs to it.

    Raises:
        FeatureError: no rows, an unknown column, an identifier that is absent or not unique, a label or a weight that
            is absent or not of its kind, or a direction for a column of categories.
    """
    from ftl.quality import read_validated

    features, lists = node.party.features, (node.consortium.identifiers, *node.consortium.alignment.otherwise)
    table = read_validated(node, features.table)
    source = f"party {node.name!r}, table {features.table!r}"
    if table.num_rows == 0:
        raise FeatureError(f"{source} has no validated rows.", cure="Collect and check the table first.")
    _require_columns(source, table, (*(column for some in lists for column in some), *features.columns))
    found = read_identifiers(source, table, lists)
    names = first_names(found)
    order = sorted(range(len(names)), key=names.__getitem__)
    table = table.take(pa.array(order))
    encoder = Encoder.fit(table, features.columns, features.categorical)
    frame = Frame(
        party=node.name,
        columns=encoder.columns,
        values=encoder.transform(table),
        categories=dict(encoder.categories),
        ids=tuple(names[row] for row in order),
        monotone=_directions(source, features, encoder),
        lists=tuple(tuple(ids[row] for row in order) for ids in found) if len(found) > 1 else (),
    )
    return (frame if node.party.role == "passive" else _labelled(source, node, table, frame, seed)), encoder


def _labelled(source: str, node: "Node", table: pa.Table, frame: Frame, seed: int) -> Frame:
    """The active party's frame with what only it has."""
    declared, holdout = node.party.label, node.consortium.training.holdout
    if declared is None:
        raise FeatureError(f"party {node.name!r} is active but has no label.", cure="Give it a `label` section.")
    _require_columns(source, table, tuple(filter(None, (declared.column, declared.weight, holdout.column))))
    label, classes = read_label(source, table, declared)
    return replace(
        frame,
        label=label,
        holdout=draw_holdout(source, table, holdout, label, declared.kind, seed),
        kind=declared.kind,
        classes=classes,
        weight=None if declared.weight is None else read_weight(source, table, declared.weight, label),
    )


def _directions(source: str, features: "Features", encoder: Encoder) -> NDArray[np.int8] | None:
    """int8, shape (p,): 1 rising, -1 falling, 0 either; None where no direction is declared."""
    coded = [column for column in features.monotone if column in encoder.categories]
    if coded:
        raise FeatureError(
            f"{source}: {coded[0]!r} holds categories, in which the answer can neither rise nor fall.",
            cure="Take it out of features.monotone, or give it numbers in the mapping.",
        )
    signs = {"rising": 1, "falling": -1}
    given = [signs[features.monotone[column]] if column in features.monotone else 0 for column in encoder.columns]
    return np.array(given, dtype=np.int8) if features.monotone else None


def _require_columns(source: str, table: pa.Table, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in table.column_names:
            near = difflib.get_close_matches(column, table.column_names, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise FeatureError(
                f"{source} has no column {column!r}.", cure=f"{hint}It has {', '.join(table.column_names)}."
            )
