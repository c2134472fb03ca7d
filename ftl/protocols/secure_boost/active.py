"""The active party's program: plans, grows trees with the others, and keeps what held-out people say is worth it."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import AdditiveScheme
from ftl.errors import FeatureError, ProtocolError
from ftl.features import BinEdges
from ftl.protocols.base import Labelled, fit
from ftl.protocols.boosting import (
    Candidates,
    Growth,
    Kept,
    Loss,
    Plan,
    Rules,
    Sampling,
    Working,
    collect_masks,
    invite,
    loss_of,
    packing_for,
    send,
)
from ftl.protocols.combine import answer
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task
from ftl.protocols.secure_boost.parts import ActiveRecord, load
from ftl.protocols.secure_boost.settings import Settings
from ftl.protocols.secure_boost.validation import Watch
from ftl.protocols.trees import Ensemble, Split, probability

LEAST_OF_A_CLASS = 10
"""Shared people of any class below which nothing can be learned."""


class State(msgspec.Struct, frozen=True):
    """What the active party keeps between rounds. The key is not among it: a run that goes on draws a new one.

    Attributes:
        own: its own model.
        margins: float64, shape (1, people, outputs).
        leaves: of all trees so far.
        splits: the active party's.
        owners: parties that split each tree.
        losses: validation loss after each round.
    """

    own: Ensemble | None
    margins: NDArray[np.float64]
    leaves: list[list[float]]
    splits: list[Split]
    owners: list[list[str]]
    losses: list[float]


@dataclass(frozen=True)
class _Joint:
    """What the rounds left."""

    combiner: Combiner
    splits: tuple[Split, ...]
    record: dict[str, Any]
    notes: tuple[str, ...]


def run_active(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Train, answer for the holdout, and leave the active party's part.

    Raises:
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
        FeatureError: too few shared people, and no model of its own to fall back to.
    """
    frame = task.frame
    loss = loss_of(frame.kind, len(frame.classes))
    state = _resumed(task)
    own = state[1].own if state else _own_model(task, settings, loss)
    joint = _train(task, settings, scheme, loss, own, state)
    kept = len(joint.combiner.trees)
    for party in task.channel.peers:
        send(task, party, "kept", Kept(kept))
    part = msgspec.json.encode(ActiveRecord(frame.columns, own, loss.outputs, kept, joint.splits))
    scores = {frame.party: load(part, {}).sub_scores(frame.values[task.test])}
    if kept:
        scores |= {party: collect_masks(task, party, kept, settings.depth) for party in task.channel.peers}
    task.report(Step("predict", 1, 1))
    return Outcome(
        part=part,
        combiner=joint.combiner,
        baseline=_baseline(loss, settings, scores[frame.party]),
        probability=answer(joint.combiner, frame.party, scores),
        settings={**settings.model_dump(), **joint.record},
        notes=joint.notes,
    )


def _baseline(loss: Loss, settings: Settings, own: SubScores) -> NDArray[np.float64] | None:
    if loss.outputs > 1 or not settings.own_model:
        return None
    return probability(own.log_odds) if loss.link == "logit" else own.log_odds


def _resumed(task: Task) -> tuple[int, State] | None:
    """(rounds done, state) of the run that was broken off, if it was."""
    latest = task.checkpoints.latest()
    if latest is None:
        return None
    number, kept = latest
    return number, decode(kept, State, sender=task.frame.party, topic="checkpoint")


def _own_model(task: Task, settings: Settings, loss: Loss) -> Ensemble | None:
    """The active party's own model; tells everybody who waits that work is under way."""
    frame, label = task.frame, _label(task)
    if loss.outputs > 1:
        return None
    rows = np.flatnonzero(
        ~np.isnan(label) & ~(np.zeros(len(label), dtype=bool) if frame.holdout is None else frame.holdout)
    )
    if not settings.own_model:
        return Ensemble(float(loss.start(label[rows], np.ones(len(rows)))[0]), (), ())

    def progress(done: int, of: int) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=False))
        task.report(Step("base", done, of))

    weight = None if frame.weight is None else frame.weight[rows]
    labelled = Labelled(frame.values[rows], label[rows], frame.categorical, frame.kind, weight, frame.monotone)
    return fit(labelled, task.seed, progress).ensemble


def _label(task: Task) -> NDArray[np.float64]:
    label, holdout = task.frame.label, task.frame.holdout
    if label is None or holdout is None:
        raise ProtocolError(f"{task.frame.party!r} is the active party but its frame has no label.")
    if np.isnan(label[task.train]).any() or holdout[task.train].any():
        raise ProtocolError(
            f"{task.frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    return label


def _rules(settings: Settings, people: int) -> Rules:
    return Rules(packing_for(people), settings.l2, settings.min_bucket, settings.min_gain, settings.min_hessian)


def _train(
    task: Task,
    settings: Settings,
    scheme: AdditiveScheme,
    loss: Loss,
    own: Ensemble | None,
    state: tuple[int, State] | None,
) -> _Joint:
    """Grow trees with all parties that have something to offer; or say why not."""
    for party in task.channel.peers:
        send(task, party, "base", Working(done=True))
    label = _label(task)[task.train]
    if reason := _hopeless(label, settings, loss):
        invite(task, None, None)
        if not settings.own_model or own is None:
            raise FeatureError(f"No joint trees can be grown: {reason}.", cure="Share more people, or use own_model.")
        note = f"The run fell back to {task.frame.party} alone: {reason}."
        return _Joint(Combiner([], link=loss.link, fell_back=reason), (), {"rounds_kept": 0}, (note,))
    growth = _growth(task, settings, scheme, loss, label, state)
    watch = Watch.draw(task.seed, len(label), settings.validation, settings.patience)
    if state is not None:
        watch.losses += state[1].losses
    _rounds(growth, watch, own)
    return _kept(growth, watch)


def _hopeless(label: NDArray[np.float64], settings: Settings, loss: Loss) -> str:
    """Why no trees can be grown, or nothing."""
    if len(label) < settings.min_shared:
        return f"{len(label)} shared training people are fewer than {settings.min_shared}"
    if loss.link == "identity":
        return "" if label.min() < label.max() else "all shared training people have the same number"
    counts = np.bincount(label.astype(np.int64), minlength=max(loss.outputs, 2))
    return (
        ""
        if counts.min() >= LEAST_OF_A_CLASS
        else (f"the shared training people have fewer than {LEAST_OF_A_CLASS} of one class")
    )


def _growth(
    task: Task,
    settings: Settings,
    scheme: AdditiveScheme,
    loss: Loss,
    label: NDArray[np.float64],
    state: tuple[int, State] | None,
) -> Growth:
    """Everything ready for the first round, or for the one after the last that was kept."""
    frame, people = task.frame, len(task.train)
    rules = _rules(settings, people)
    first = 0 if state is None else state[0]
    plan = Plan(
        people, 1, loss.outputs, settings.rounds, settings.depth, settings.min_bucket, settings.max_bins,
        rules.packing.bits, settings.columns, first,
    )  # fmt: skip
    cipher, sampling = scheme.generate(), Sampling(task.seed, settings.rows, settings.goss_top, settings.goss_other)
    cipher.ahead(sampling.most(people) * loss.outputs)
    partners = invite(task, plan, cipher)
    edges = BinEdges.fit(frame.values, frame.categorical, settings.max_bins)
    own = Candidates(frame.values[task.train], edges, settings.min_bucket, frame.monotone)
    weight = np.ones(people) if frame.weight is None else frame.weight[task.train]
    margins = np.tile(loss.start(label, weight), (1, people, 1)) if state is None else state[1].margins
    growth = Growth(
        task, plan, own, partners, cipher, rules, loss, sampling, settings.learning_rate, label, weight, margins
    )
    if state is not None:
        growth.leaves += state[1].leaves
        growth.splits += state[1].splits
        growth.owners += [set(parties) for parties in state[1].owners]
    return growth


def _rounds(growth: Growth, watch: Watch, own: Ensemble | None) -> None:
    """Grow until the held-out people say that it is in vain, or the plan ends; keep the state of every round."""
    task, plan = growth.task, growth.plan
    grown = plan.first
    while grown < plan.rounds and not watch.past_best:
        growth.round(grown, ~watch.held_out[None])
        grown += 1
        metrics = watch.add(growth.loss, growth.label, growth.weight, growth.margins[0])
        owners = [sorted(parties) for parties in growth.owners]
        kept = State(own, growth.margins, growth.leaves, growth.splits, owners, watch.losses)
        task.checkpoints.save(grown, encode(kept))
        task.report(Step("train", grown, plan.rounds, metrics))
    growth.finish(grown)


def _kept(growth: Growth, watch: Watch) -> _Joint:
    task, plan = growth.task, growth.plan
    rounds = watch.rounds_kept
    count = rounds * plan.trees
    used = set[str]().union(*growth.owners[:count])
    parties = [task.frame.party, *(party for party in growth.partners if party in used)]
    start = growth.loss.start(growth.label, growth.weight)
    combiner = Combiner(
        growth.leaves[:count],
        parties=parties,
        link=growth.loss.link,
        outputs=plan.outputs,
        offsets=start.tolist(),
    )
    splits = tuple(split for split in growth.splits if split.tree < count)
    return _Joint(combiner, splits, {"rounds_kept": rounds}, ())
