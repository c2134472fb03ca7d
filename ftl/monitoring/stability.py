"""Population stability: has a party's population moved since its model part was trained?

Computed at the node on its own validated rows; only the index of each column is told.

References:
    Siddiqi (2006), Credit Risk Scorecards, chapter 8: the index and its customary bounds of 0.10 and 0.25.
"""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.consortium import Node
from ftl.errors import RegistryError
from ftl.features import Encoder
from ftl.federation import read_part
from ftl.quality import read_validated, validated_version

WATCH = 0.10
ACT = 0.25
BINS = 10
LEAST_SHARE = 1e-4
"""Stands for an empty bin, whose logarithm would be infinite."""

Verdict = Literal["stable", "watch", "act"]


class ColumnDrift(msgspec.Struct, frozen=True):
    """How far one column has moved.

    Attributes:
        column: of the features table.
        index: population stability index, 0 when nothing moved.
        verdict: ``stable`` below 0.10, ``watch`` below 0.25, else ``act``.
    """

    column: str
    index: float
    verdict: Verdict


class Drift(msgspec.Struct, frozen=True):
    """How far a party's population has moved since a run.

    Attributes:
        party, run_id: whose part, trained by which run.
        trained_on, now: Delta versions of the validated features table.
        columns: per feature, the one that moved most first.
        verdict: the worst of them.
    """

    party: str
    run_id: str
    trained_on: int
    now: int
    columns: list[ColumnDrift]
    verdict: Verdict


def drift(node: Node, run_id: str) -> Drift:
    """Compare the rows that a model part was trained on with the rows that are published now.

    Args:
        node: the party's node.
        run_id: of the run that trained the part.

    Returns:
        one index per column.

    Raises:
        RegistryError: the node has no part of that run, or the rows it was trained on are no longer kept.
        LakeError: nothing is published.
    """
    stored = read_part(node, run_id)
    table, encoder = node.party.features.table, Encoder.from_json(stored.encoder)
    trained_on = stored.manifest.table_version
    if trained_on is None:
        raise RegistryError(
            f"The part of run {run_id} at {node.name} does not say which rows it was trained on.", cure="Train again."
        )
    then = encoder.transform(read_validated(node, table, encoder.columns, version=trained_on))
    today = encoder.transform(read_validated(node, table, encoder.columns))
    columns = [_column(name, then[:, i], today[:, i]) for i, name in enumerate(encoder.columns)]
    columns.sort(key=lambda one: -one.index)
    worst: Verdict = columns[0].verdict if columns else "stable"
    return Drift(node.name, run_id, trained_on, validated_version(node, table) or 0, columns, worst)


def stability_index(then: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Population stability index Σ (a − e)·ln(a/e) over ten equally filled bins of `then` and one for missing values.

    Args:
        then: float64, shape (n,); NaN is missing.
        now: float64, shape (m,).

    Returns:
        at least 0; 0 for equal shares.
    """
    edges = (
        np.unique(np.nanquantile(then, np.linspace(0, 1, BINS + 1)[1:-1])) if not np.isnan(then).all() else np.empty(0)
    )
    expected, actual = _shares(then, edges), _shares(now, edges)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(values)
    bins = np.where(missing, len(edges) + 1, np.searchsorted(edges, np.where(missing, 0.0, values), side="right"))
    shares = np.bincount(bins, minlength=len(edges) + 2) / max(len(values), 1)
    return np.maximum(shares, LEAST_SHARE)


def _column(name: str, then: NDArray[np.float64], now: NDArray[np.float64]) -> ColumnDrift:
    index = stability_index(then, now)
    return ColumnDrift(name, index, "act" if index >= ACT else "watch" if index >= WATCH else "stable")
