"""The active party's program: fits its own model, then grows federated trees on what that leaves unexplained."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme
from ftl.errors import ProtocolError
from ftl.features import BinEdges
from ftl.protocols.base import Base, fit_base, out_of_fold
from ftl.protocols.combine import log_odds
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task
from ftl.protocols.transfer_boost.candidates import Candidates
from ftl.protocols.transfer_boost.growth import Growth
from ftl.protocols.transfer_boost.messages import Kept, Masks, Ready, Start, Working, receive, require_shape, send
from ftl.protocols.transfer_boost.offers import Rules
from ftl.protocols.transfer_boost.partition import fold_of, packing_for, training_of
from ftl.protocols.transfer_boost.parts import ActiveRecord, attainable, load
from ftl.protocols.transfer_boost.passive import mask_type
from ftl.protocols.transfer_boost.settings import Plan, Settings
from ftl.protocols.transfer_boost.validation import Curve
from ftl.protocols.trees import Split, probability

LEAST_OF_A_CLASS = 5
"""Shared people of either class below which nothing can be learned or checked."""


@dataclass(frozen=True)
class _Start:
    """The active party's own model and what it says of its labelled training rows."""

    base: Base
    honest: NDArray[np.float64]
    """float64, shape (n,): log-odds of each row of the frame by a model that has not seen it; NaN for other rows."""


@dataclass(frozen=True)
class _Trees:
    """What the federated rounds left: tree by tree, and how it was arrived at."""

    combiner: Combiner
    splits: tuple[Split, ...]
    record: dict[str, Any]
    notes: tuple[str, ...]


def run_active(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Train, score the holdout, and leave the active party's part.

    Raises:
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    start = _fit_start(task)
    plan = settings.plan(len(task.train))
    trees = _train(task, settings, plan, scheme, start)
    kept = len(trees.combiner.trees)
    for party in task.channel.peers:
        send(task, party, "kept", Kept(kept))
    frame = task.frame
    record = ActiveRecord(frame.columns, start.base.ensemble, kept, trees.splits, attainable(frame))
    part = msgspec.json.encode(record)
    scores = {frame.party: load(part, {}).sub_scores(frame.values[task.test])}
    if kept:
        scores |= {party: _masks(task, party, kept, plan.depth) for party in task.channel.peers}
    task.report(Step("predict", 1, 1))
    return Outcome(
        part=part,
        combiner=trees.combiner,
        baseline=probability(scores[frame.party].log_odds),
        probability=probability(log_odds(trees.combiner, frame.party, scores)),
        settings={**settings.model_dump(), **trees.record, "base": start.base.settings},
        notes=trees.notes,
    )


def _fit_start(task: Task) -> _Start:
    """Fit the base and its out-of-fold log-odds; tells everybody who waits that work is under way."""
    frame, label = task.frame, task.frame.label
    if label is None or frame.holdout is None:
        raise ProtocolError(f"{frame.party!r} is the active party but its frame has no label.")
    rows = np.flatnonzero(~np.isnan(label) & ~frame.holdout)
    values, known = frame.values[rows], label[rows]

    def progress(done: int, of: int) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=False))
        task.report(Step("base", done, of))

    base = fit_base(values, known, frame.categorical, task.seed, progress)
    honest = np.full(len(label), np.nan)
    honest[rows] = out_of_fold(values, known, frame.categorical, base, task.seed, progress)
    for party in task.channel.peers:
        send(task, party, "base", Working(done=True))
    return _Start(base, honest)


def _train(task: Task, settings: Settings, plan: Plan, scheme: AdditiveScheme, start: _Start) -> _Trees:
    """Grow trees with all parties that have something to offer; or say why not."""
    label = _shared_labels(task)
    if reason := _hopeless(label, settings):
        for party in task.channel.peers:
            send(task, party, "start", Start(None, b""))
        return _fallen_back(task, reason)
    cipher = scheme.generate()
    for party in task.channel.peers:
        send(task, party, "start", Start(plan, cipher.public()))
    offered = {party: receive(task, party, "ready", Ready).candidates for party in task.channel.peers}
    partners = {party: count for party, count in offered.items() if count}
    if not partners:
        return _fallen_back(task, "no other party has a column that splits the shared people")
    training = training_of(fold_of(plan.shared, plan.folds, task.seed), plan.folds)
    rules = Rules(packing_for(training), settings.l2, plan.min_bucket, settings.min_gain)
    odds = np.repeat(start.honest[task.train][None], plan.folds, axis=0)
    own = _own_candidates(task, settings, plan, start)
    growth = Growth(task, plan, own, partners, cipher, rules, settings.learning_rate, label, training, odds)
    curve = Curve(label, [growth.held_out()])
    _rounds(growth, curve)
    return _kept(growth, curve)


def _shared_labels(task: Task) -> NDArray[np.float64]:
    label, holdout = task.frame.label, task.frame.holdout
    if label is None or holdout is None:
        raise ProtocolError(f"{task.frame.party!r} is the active party but its frame has no label.")
    if np.isnan(label[task.train]).any() or holdout[task.train].any():
        raise ProtocolError(
            f"{task.frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    return np.asarray(label[task.train])


def _hopeless(label: NDArray[np.float64], settings: Settings) -> str:
    """Why no trees can be grown, or nothing."""
    if len(label) < settings.min_shared:
        return f"{len(label)} shared training people are fewer than {settings.min_shared}"
    if min(label.sum(), (1 - label).sum()) < LEAST_OF_A_CLASS:
        return f"the shared training people have fewer than {LEAST_OF_A_CLASS} of one class"
    return ""


def _own_candidates(task: Task, settings: Settings, plan: Plan, start: _Start) -> Candidates:
    """Candidates on the base's log-odds (as column p), and on the p own columns if the settings want them."""
    frame = task.frame
    values = np.column_stack([frame.values, start.honest])
    rows = ~np.isnan(start.honest)
    if settings.active_columns == "base":
        values[:, :-1] = np.nan
    edges = BinEdges.fit(values[rows], np.append(frame.categorical, [False]), plan.max_bins)
    return Candidates(values[task.train], edges, plan.min_bucket)


def _rounds(growth: Growth, curve: Curve) -> None:
    """Grow until the held-out people say that it is in vain, or the plan ends."""
    for number in range(growth.plan.rounds):
        growth.round(number)
        metrics = curve.add(growth.held_out())
        growth.task.report(Step("train", number + 1, growth.plan.rounds, metrics))
        if curve.past_best:
            break
    growth.finish(len(curve.log_odds) - 1)


def _kept(growth: Growth, curve: Curve) -> _Trees:
    """The rounds worth keeping, as the mean of the ensembles; or the way back when held-out people gain nothing."""
    task, plan, rounds = growth.task, growth.plan, curve.kept()
    factor = curve.scale(rounds)
    if curve.hurts(rounds, factor):
        return _fallen_back(task, "the trees did not help shared people whom they had not seen")
    count = rounds * plan.folds
    trees = [[value / plan.folds for value in values] for values in growth.leaves[:count]]
    used = set[str]().union(*growth.owners[:count])
    parties = [task.frame.party, *(party for party in growth.partners if party in used)]
    combiner = Combiner(trees, scale=factor, parties=parties)
    record = {"rounds_kept": rounds, "depth": plan.depth, "min_bucket": plan.min_bucket, "scale": factor}
    return _Trees(combiner, tuple(split for split in growth.splits if split.tree < count), record, ())


def _fallen_back(task: Task, reason: str) -> _Trees:
    note = f"The run fell back to {task.frame.party} alone: {reason}."
    return _Trees(Combiner([], fell_back=reason), (), {"rounds_kept": 0}, (note,))


def _masks(task: Task, party: str, trees: int, depth: int) -> SubScores:
    """A passive party's leaves for the people of the holdout."""
    leaves = receive(task, party, "masks", Masks).leaves
    require_shape(party, "masks", leaves, (len(task.test), trees))
    full = (1 << (1 << depth)) - 1
    if leaves.dtype != mask_type(depth) or (leaves & full == 0).any():
        raise ProtocolError(f"{party!r} sent masks that leave no leaf of a tree of depth {depth}.")
    return SubScores(np.ones(len(leaves), dtype=bool), np.zeros(len(leaves)), leaves.astype(np.uint64))
