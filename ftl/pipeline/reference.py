"""The pooled reference: what one model on everybody's data would reach. Only where all data are ours to pool.

A consortium without a ``simulation`` section has no pooled reference, because nobody may compute it.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftl.consortium import Folder
from ftl.errors import ConsortiumError
from ftl.features import Frame, build
from ftl.federation import Evaluation, evaluate
from ftl.protocols.base import fit_base


def pooled_reference(folder: Folder, seed: int, parties: Collection[str]) -> Evaluation | None:
    """Fit the active party's kind of base model on all its training rows and all columns, and evaluate it.

    People are joined by the scenario's links file. Whom a party's validated table lacks has its columns missing.
    Figures are of those whom every party knows as a customer, so that they compare with the federated model's.

    Args:
        folder: a consortium with a ``simulation`` section; without one there is no reference.
        seed: of the folds in which the base model's settings are chosen, and of the bootstrap.
        parties: whose columns to pool; the active one's are always.

    Returns:
        figures on the active party's holdout people whom every party knows; None also where there are no such people,
        and for labels that are not bad or good.

    Raises:
        ConsortiumError: the links file lacks a party's column.
    """
    simulation = folder.consortium.simulation
    if simulation is None:
        return None
    active = build(folder.node(folder.consortium.active), seed)[0]
    if active.kind != "binary":
        return None
    others = [build(folder.node(name), seed)[0] for name in folder.consortium.passive if name in parties]
    links = pq.read_table(folder.root / simulation.links)
    rows = _linked_rows(links, active, others)
    pooled = _join(active, others, rows)
    label, holdout = pooled.label, pooled.holdout
    if label is None or holdout is None:
        raise ConsortiumError(f"party {active.party} has no label", cure="Give the active party a label.")
    labelled = ~np.isnan(label)
    train = labelled & ~holdout
    test = labelled & holdout & _customers_of_all(links, active) & np.logical_and.reduce([row >= 0 for row in rows])
    if not test.any():
        return None
    base = fit_base(pooled.values[train], label[train], pooled.categorical, seed)
    return evaluate(label[test], base.probability(pooled.values[test]), seed)


def _customers_of_all(links: pa.Table, active: Frame) -> NDArray[np.bool_]:
    """bool, shape (n,): people who are customers of every party; the links tell strangers' rows apart by `at_all`."""
    if "at_all" not in links.column_names:
        return np.ones(len(active.ids), dtype=bool)
    known = dict(zip(links.column(active.party).to_pylist(), links.column("at_all").to_pylist(), strict=True))
    return np.array([bool(known.get(own_id)) for own_id in active.ids], dtype=bool)


def _linked_rows(links: pa.Table, active: Frame, others: list[Frame]) -> list[NDArray[np.int64]]:
    """Per other party int64, shape (n,): its row of each of the active party's people, -1 where it has none."""
    absent = [name for name in (active.party, *(frame.party for frame in others)) if name not in links.column_names]
    if absent:
        raise ConsortiumError(
            f"simulation.links has no column {absent[0]!r}",
            cure=f"It needs one per party; it has {', '.join(links.column_names)}.",
        )
    own = links.column(active.party).to_pylist()
    found = []
    for frame in others:
        there = {identifier: row for row, identifier in enumerate(frame.ids)}
        partner = dict(zip(own, links.column(frame.party).to_pylist(), strict=True))
        found.append(np.array([there.get(partner.get(own_id, ""), -1) for own_id in active.ids], dtype=np.int64))
    return found


def _join(active: Frame, others: list[Frame], rows: list[NDArray[np.int64]]) -> Frame:
    """The active party's people with every party's columns side by side; NaN where a party lacks the person."""
    blocks, columns, categories = [active.values], list(active.columns), dict(active.categories)
    for frame, row in zip(others, rows, strict=True):
        blocks.append(np.where((row >= 0)[:, None], frame.values[row], np.nan))
        columns += [f"{frame.party}.{column}" for column in frame.columns]
        categories |= {f"{frame.party}.{column}": texts for column, texts in frame.categories.items()}
    return replace(active, columns=tuple(columns), values=np.hstack(blocks), categories=categories)
