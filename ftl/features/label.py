"""What is predicted, as numbers: bad or good, a number, or one of several classes. Weights and holdout beside it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.errors import FeatureError
from ftl.features.encoder import numbers, texts

if TYPE_CHECKING:  # scoring needs the encoder, but neither the lake nor the consortium's file
    from ftl.consortium.model import Holdout
    from ftl.consortium.model import Label as Declared

MOST_CLASSES = 64
"""More are a number in disguise, or a text that names people."""

Numbers = NDArray[np.float64]


def read_label(source: str, table: pa.Table, declared: "Declared") -> tuple[Numbers, tuple[str, ...]]:
    """The label of every row.

    Args:
        source: names party and table in errors.
        table: holds the label's column.
        declared: what the label is.

    Returns:
        label: float64, shape (n,), NaN where unknown: 1 is bad and 0 good, the number itself, or the class's number.
        classes: texts of the classes in the order of their numbers; empty unless the label is of kind ``classes``.

    Raises:
        FeatureError: no row has a label, all have the same one, or it is not of the declared kind.
    """
    values = table.column(declared.column).combine_chunks()
    where = f"{source}: label {declared.column!r}"
    if pc.all(pc.is_null(values, nan_is_null=True)).as_py():
        raise FeatureError(f"{source}: no row has a label ({declared.column!r}).", cure="Check the mapping.")
    if declared.kind == "number":
        return _number(where, values), ()
    if declared.kind == "classes":
        classes = _classes(where, values, declared.classes)
        found = pc.index_in(texts(values), value_set=pa.array(classes, pa.string()), skip_nulls=True)
        return np.asarray(pc.cast(found, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64), classes
    return _binary(where, values, declared.positive), ()


def read_weight(source: str, table: pa.Table, column: str, label: Numbers) -> Numbers:
    """How much each row counts, float64, shape (n,); 1 where the label is unknown.

    Raises:
        FeatureError: the column holds no numbers, or a labelled row has none above 0.
    """
    weight = _as_numbers(f"{source}: the label's weight {column!r}", table.column(column).combine_chunks())
    labelled = ~np.isnan(label)
    wrong = int((labelled & ~(weight > 0)).sum())
    if wrong:
        raise FeatureError(
            f"{source}: {wrong} labelled rows have no weight above 0 ({column!r}).",
            cure="Give the column a default in the mapping, or let the table's suite quarantine such rows.",
        )
    return np.where(labelled, weight, 1.0)


def draw_holdout(
    source: str, table: pa.Table, declared: "Holdout", label: Numbers, kind: str, seed: int
) -> NDArray[np.bool_]:
    """Rows kept for evaluation, bool, shape (n,): as a column says, else drawn; classes keep their shares.

    Args:
        source: names party and table in errors.
        table: holds the holdout's column, if one is declared.
        declared: how the holdout is chosen.
        label: float64, shape (n,); only labelled rows are drawn.
        kind: of the label; numbers are drawn at random, anything else class by class.
        seed: of the draw.
    """
    if declared.column is not None:
        return equal(table.column(declared.column).combine_chunks(), declared.value)
    generator = np.random.default_rng(seed)
    labelled = np.flatnonzero(~np.isnan(label))
    strata = (
        [labelled] if kind == "number" else [np.flatnonzero(label == value) for value in np.unique(label[labelled])]
    )
    chosen = np.zeros(len(label), dtype=bool)
    for rows in strata:
        chosen[generator.permutation(rows)[: round(len(rows) * declared.fraction)]] = True
    if not chosen.any() or chosen[labelled].all():
        raise FeatureError(
            f"{source}: a holdout of {declared.fraction:g} of {len(labelled)} labelled rows leaves one side empty.",
            cure="Collect more labelled rows, or change training.holdout.fraction.",
        )
    return chosen


def equal(values: pa.Array, wanted: Any) -> NDArray[np.bool_]:
    """bool, shape (n,): which values equal `wanted`, whatever type each has."""
    same = pc.fill_null(pc.equal(texts(values), _text(values.type, wanted)), fill_value=False)
    return np.asarray(same.to_numpy(zero_copy_only=False), dtype=bool)


def _binary(where: str, values: pa.Array, positive: Any) -> Numbers:
    unknown = pc.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False)
    label = np.where(unknown, np.nan, equal(values, positive))
    if len(np.unique(label[~np.isnan(label)])) < 2:
        found = ", ".join(sorted(str(v) for v in pc.unique(texts(values)).to_pylist() if v is not None)[:5])
        raise FeatureError(
            f"{where} has one class; found {found}, of which {positive!r} is bad.",
            cure="Correct `label.positive`, or collect people of both classes.",
        )
    return np.asarray(label, dtype=np.float64)


def _number(where: str, values: pa.Array) -> Numbers:
    label = _as_numbers(where, values)
    known = label[~np.isnan(label)]
    if len(known) == 0 or known.min() == known.max():
        raise FeatureError(
            f"{where} is the same number in all {len(known)} labelled rows.", cure="Check the mapping of the column."
        )
    return label


def _classes(where: str, values: pa.Array, declared: tuple[Any, ...]) -> tuple[str, ...]:
    """Texts of the classes: as declared, else those found, sorted."""
    kept = values.filter(pc.invert(pc.is_null(values, nan_is_null=True)))
    found = texts(pa.array(sorted(pc.unique(kept).to_pylist()), values.type)).to_pylist()
    classes = tuple(_text(values.type, value) for value in declared) or tuple(dict.fromkeys(found))
    strangers = sorted(set(found) - set(classes))
    if strangers:
        raise FeatureError(
            f"{where} has {len(strangers)} values that are not declared classes: {', '.join(strangers[:5])}.",
            cure="Add them to `label.classes`, or recode them in the mapping.",
        )
    absent = [name for name in classes if name not in found]
    if absent or not 2 <= len(classes) <= MOST_CLASSES:
        said = f"has no row of class {absent[0]!r}" if absent else f"has {len(classes)} classes"
        raise FeatureError(
            f"{where} {said}; 2 to {MOST_CLASSES} classes can be told apart, each with rows.",
            cure="Correct `label.classes`, recode the column, or use `kind: number`.",
        )
    return classes


def _as_numbers(where: str, values: pa.Array) -> Numbers:
    plain = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
    if not plain:
        raise FeatureError(f"{where} is of type {values.type}, not a number.", cure="Map it as int64 or float64.")
    return numbers(values)


def _text(kind: pa.DataType, value: Any) -> str:
    """The text that stands for a value as written in consortium.yaml, in a column of that type."""
    if pa.types.is_boolean(kind) and value in (0, 1):
        value = bool(value)
    return str(texts(pa.array([value]))[0])
