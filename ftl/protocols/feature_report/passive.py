"""A passive party's program: sums encrypted labels over its bins, and multiplies encrypted vectors with its own."""

import secrets
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme
from ftl.errors import CipherError, ProtocolError
from ftl.features.binning import by_first_appearance
from ftl.protocols.feature_report.columns import OwnColumn, People, all_vectors, own_columns
from ftl.protocols.feature_report.correlations import answer_all
from ftl.protocols.feature_report.files import private_files
from ftl.protocols.feature_report.messages import (
    CHAIN,
    KEEP,
    Labels,
    Merged,
    Stability,
    Sums,
    Verdict,
    Within,
    label_bits,
    receive,
    require,
    send,
)
from ftl.protocols.feature_report.selection import in_words
from ftl.protocols.feature_report.settings import Settings
from ftl.protocols.recipe import Outcome, Step, Task

STEPS = 3
"""Of progress: bins summed, columns correlated, judged."""


@dataclass(frozen=True)
class Sent:
    """A column as the active party sees it.

    Attributes:
        column: this party's.
        order: int64, shape (bins,): fine bin at each place; missing values of a bin of their own come last.
    """

    column: OwnColumn
    order: NDArray[np.int64]

    @property
    def trend(self) -> int:
        """Of the share of bad along the order: 1 rising, -1 falling, 0 either."""
        wanted = {"rising": 1, "falling": -1}.get(self.column.trend, 0)
        return -wanted if len(self.order) > 1 and self.order[0] > self.order[1] else wanted

    def received(self, groups: list[int]) -> NDArray[np.int64]:
        """Merged bin of each fine bin in this party's own order, numbered as they first appear there."""
        merged = np.empty(len(self.order), dtype=np.int64)
        merged[self.order] = groups
        return by_first_appearance(merged)

    def weights(self, groups: list[int], woe: list[float | None]) -> list[float | None]:
        """The weights that came with `groups`, in the order of :meth:`received`."""
        renamed = self.received(groups)[self.order]
        told: list[float | None] = [None] * len(set(groups))
        for new, old in zip(renamed, groups, strict=True):
            told[int(new)] = woe[old] if woe else None
        return told


def run_passive(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Take part in a run as a passive party.

    Raises:
        ProtocolError: the active party or another passive one sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    labels = receive(task, task.active, "labels", Labels)
    if not labels.people:
        return Outcome(b"[]")
    require(task.active, "labels", labels.people == len(task.train), f"labels of {labels.people} people")
    people = People.of(task.frame, task.train, task.test)
    sent = in_secret_order(own_columns(task.frame, task.train, settings))
    send(task, task.active, "sums", _sums(task, settings, scheme, labels, sent))
    task.report(Step("train", 1, STEPS))
    merged = _checked(task, receive(task, task.active, "merged", Merged), sent)
    groups = [each.received(group) for each, group in zip(sent, merged.groups, strict=True)]
    send(task, task.active, "stability", _stability(people, sent, groups))
    if settings.correlation != "none":
        _correlate(task, scheme, sent)
    task.report(Step("train", 2, STEPS))
    verdict = receive(task, task.active, "verdict", Verdict)
    lengths = len(verdict.information_value), len(verdict.reasons)
    require(task.active, "verdict", lengths == (len(sent), len(sent)), f"a verdict on {lengths} columns")
    task.report(Step("train", 3, STEPS))
    return _outcome(people, sent, merged, groups, verdict)


def in_secret_order(columns: list[OwnColumn]) -> list[Sent]:
    """Columns, categories, and the direction of chains as only this party knows them."""
    generator = np.random.default_rng(secrets.randbits(128))
    return [Sent(columns[place], _order(columns[place], generator)) for place in generator.permutation(len(columns))]


def _order(column: OwnColumn, generator: np.random.Generator) -> NDArray[np.int64]:
    fine = column.fine
    order = np.arange(fine.known)
    if column.kind != CHAIN:
        order = generator.permutation(order)
    elif generator.integers(2):
        order = order[::-1]
    return np.append(order, [fine.known] if fine.own_missing else []).astype(np.int64)


def _sums(task: Task, settings: Settings, scheme: AdditiveScheme, labels: Labels, sent: list[Sent]) -> Sums:
    try:
        cipher = scheme.load_public(labels.public)
        ciphertexts = cipher.load(labels.ciphertexts, labels.people)
    except CipherError as exc:
        raise ProtocolError(f"{task.active!r} sent labels that cannot be read: {exc.message}", cure=exc.cure) from exc
    bins = [len(each.order) for each in sent]
    codes = [np.argsort(each.order)[each.column.fine.codes(each.column.values[task.train])] for each in sent]
    everybody = [np.ones(labels.people, dtype=bool)]
    table = np.ascontiguousarray(np.column_stack(codes).astype(np.int8))
    sums = cipher.bucket_sums(ciphertexts, everybody, table, bins)[0]
    return Sums(
        bins=np.array(bins, dtype=np.int64),
        kinds=np.array([each.column.kind for each in sent], dtype=np.uint8),
        trends=np.array([each.trend for each in sent], dtype=np.int8),
        gaps=np.array([each.column.fine.own_missing for each in sent], dtype=bool),
        names=[each.column.name for each in sent] if settings.name_columns else [],
        ciphertexts=cipher.dump(cipher.compress(sums, label_bits(labels.people))),
    )


def _correlate(task: Task, scheme: AdditiveScheme, sent: list[Sent]) -> None:
    together, sizes = all_vectors([each.column for each in sent])
    within = Within(np.array(sizes, dtype=np.int64), together.T @ together / len(together))
    send(task, task.active, "within", within)
    answer_all(task, scheme, together)


def _checked(task: Task, merged: Merged, sent: list[Sent]) -> Merged:
    """The active party's merging, if it is one of these bins."""
    active = task.active
    require(active, "merged", len(merged.groups) == len(sent), f"bins of {len(merged.groups)} columns")
    require(active, "merged", len(merged.woe) in (0, len(sent)), f"weights of {len(merged.woe)} columns")
    for place, (each, groups) in enumerate(zip(sent, merged.groups, strict=True)):
        proper = len(groups) == len(each.order) and groups == by_first_appearance(groups).tolist()
        if each.column.kind == KEEP:
            proper = proper and len(set(groups)) == len(groups)
        if each.column.kind == CHAIN:
            proper = proper and groups == sorted(groups)
        if proper and each.column.fine.own_missing:
            proper = groups.count(groups[-1]) == 1
        require(active, "merged", proper, "bins that cannot be merged so")
        weights = merged.woe[place] if merged.woe else []
        fitting = not merged.woe or len(weights) == len(set(groups))
        finite = all(woe is None or np.isfinite(woe) for woe in weights)
        require(active, "merged", fitting and finite, "weights of evidence that fit no bins")
    return merged


def _stability(people: People, sent: list[Sent], groups: list[NDArray[np.int64]]) -> Stability:
    found = [each.column.stability(people, group) for each, group in zip(sent, groups, strict=True)]
    holdout, others = np.array(found, dtype=np.float64).T  # None becomes NaN
    return Stability(holdout.copy(), others.copy())


def _outcome(
    people: People, sent: list[Sent], merged: Merged, groups: list[NDArray[np.int64]], verdict: Verdict
) -> Outcome:
    tables = []
    for number, (each, group, reason) in enumerate(zip(sent, groups, verdict.reasons, strict=True)):
        woe = each.weights(merged.groups[number], merged.woe[number] if merged.woe else [])
        value = verdict.information_value[number]
        tables.append(each.column.table(number + 1, people, group, woe, None, value, reason, in_words(reason)))
    return Outcome(part=msgspec.json.encode(tables), private=private_files(tables))
