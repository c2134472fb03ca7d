"""The active party's program: its own model first, then the joint regression, then what its coefficients are worth."""

import msgspec
import numpy as np

from ftl.errors import ConsortiumError, FeatureError, ProtocolError
from ftl.protocols.base import fit_base
from ftl.protocols.combine import answer
from ftl.protocols.hetero_linear.alone import Link, answered, fit_alone
from ftl.protocols.hetero_linear.fitting import note_on
from ftl.protocols.hetero_linear.fixed import Floats
from ftl.protocols.hetero_linear.joint import Joint, brought, fit_joint, information, invite
from ftl.protocols.hetero_linear.messages import (
    Finish,
    Scores,
    Start,
    Working,
    receive,
    require_shape,
    send,
)
from ftl.protocols.hetero_linear.parts import ActiveRecord, load, share_of
from ftl.protocols.hetero_linear.settings import Settings
from ftl.protocols.hetero_linear.table import FILE, deviations, table
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task

LEAST_OF_A_CLASS = 10
"""Shared people of either class below which nothing can be learned."""


def run_active(task: Task, settings: Settings, link: Link) -> Outcome:
    """Fit, score the holdout, and leave the active party's part.

    Raises:
        ConsortiumError: the label is not of the kind that the recipe is for.
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    record = _own_model(task, settings, link)
    reason = _hopeless(task, settings, link)
    if reason:
        for party in task.channel.peers:
            send(task, party, "start", Start(None))
        return _alone(task, settings, link, record, reason)
    shared = brought(task, settings, link, _label(task, link)[task.train])
    exchange = invite(task, settings, link, shared)
    if exchange is None:
        return _alone(task, settings, link, record, "no other party has a column that tells people apart")
    joint = fit_joint(task, exchange, shared, link, settings.tolerance)
    return _finish(task, settings, link, record, joint)


def _own_model(task: Task, settings: Settings, link: Link) -> ActiveRecord:
    """The active party's part before there is a joint model; tells everybody who waits that work is under way."""
    frame, label = task.frame, _label(task, link)
    holdout = np.zeros(len(label), dtype=bool) if frame.holdout is None else frame.holdout
    rows = np.flatnonzero(~np.isnan(label) & ~holdout)

    def progress(done: int, of: int) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=False))
        task.report(Step("base", done, of))

    if link == "logit" and settings.own_model == "boosting":
        base = fit_base(frame.values[rows], label[rows], frame.categorical, task.seed, progress)
        record = ActiveRecord(frame.columns, base.ensemble, None, None)
    else:
        if link == "logit" and min(label[rows].sum(), (1 - label[rows]).sum()) < 1:
            raise FeatureError("All labelled people are of one class.", cure="Collect more outcomes.")
        record = ActiveRecord(frame.columns, None, fit_alone(frame, rows, link, settings.l2, settings.min_rows), None)
        progress(1, 1)
    for party in task.channel.peers:
        send(task, party, "base", Working(done=True))
    return record


def _label(task: Task, link: Link) -> Floats:
    frame, kind = task.frame, "binary" if link == "logit" else "number"
    if frame.label is None or frame.holdout is None:
        raise ProtocolError(f"{frame.party!r} is the active party but its frame has no label.")
    if frame.kind != kind:
        raise ConsortiumError(
            f"The label of {frame.party!r} is of kind {frame.kind!r}; this recipe needs {kind!r}.",
            cure="hetero_logistic is for good or bad, hetero_linear for numbers.",
        )
    if np.isnan(frame.label[task.train]).any() or frame.holdout[task.train].any():
        raise ProtocolError(
            f"{frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    return frame.label


def _hopeless(task: Task, settings: Settings, link: Link) -> str:
    """Why there can be no joint model, or nothing."""
    label = _label(task, link)[task.train]
    if len(label) < settings.min_shared:
        return f"{len(label)} shared training people are fewer than {settings.min_shared}"
    if link == "identity":
        return "" if label.min() < label.max() else "all shared training people have the same number"
    few = min(label.sum(), (1 - label).sum()) < LEAST_OF_A_CLASS
    return f"the shared training people have fewer than {LEAST_OF_A_CLASS} of one class" if few else ""


def _finish(task: Task, settings: Settings, link: Link, record: ActiveRecord, joint: Joint) -> Outcome:
    """Standard errors, the part, and the answers for the holdout."""
    fit, target, design, frame = joint.fit, joint.shared.target, joint.shared.design, task.frame
    plan = fit.exchange.plan
    covariance, variance, freedom = information(joint) if plan.standard_errors else (None, 1.0, 0)
    for party in fit.exchange.others:
        send(task, party, "finish", Finish(target.scale, variance, freedom))
    found = target.scale * fit.block.coefficients
    share = share_of(frame.columns, design, found[1:], frame.values[task.train])
    part = msgspec.json.encode(ActiveRecord(record.columns, record.base, record.regression, share))
    combiner = Combiner([], offset=float(found[0]) + target.centre, parties=fit.exchange.parties, link=link)
    scores = {frame.party: load(part, {}).sub_scores(frame.values[task.test])}
    for party in fit.exchange.others:
        scores[party] = _scores(task, party)
    task.report(Step("predict", 1, 1))
    scaled = None if covariance is None else covariance * variance * target.scale**2
    note = note_on(plan, covariance is not None)
    spread = np.concatenate([[1.0], deviations(design)])
    names = ["intercept", *design.names(frame)]
    rows = table(names, spread, found + np.eye(len(found))[0] * target.centre, fit.block.free, scaled, freedom, note)
    return Outcome(
        part=part,
        combiner=combiner,
        baseline=answered(scores[frame.party].log_odds, link),
        probability=answer(combiner, frame.party, scores),
        settings={**settings.model_dump(), "rounds_run": joint.rounds, "largest_step": joint.moved},
        notes=_notes(settings, joint, note),
        private={FILE: rows},
    )


def _scores(task: Task, party: str) -> SubScores:
    people = len(task.test)
    values = receive(task, party, "scores", Scores).values
    require_shape(party, "scores", values, (people,))
    return SubScores(
        np.ones(people, dtype=bool), np.zeros(people), np.zeros((people, 0), dtype=np.uint64), share=values[:, None]
    )


def _notes(settings: Settings, joint: Joint, note: str) -> tuple[str, ...]:
    notes = [note] if note and settings.standard_errors else []
    if joint.moved > settings.tolerance:
        notes.append(
            f"The fit ended after {joint.rounds} rounds with steps of {joint.moved:.2g}, above the tolerance of "
            f"{settings.tolerance:g}."
        )
    return tuple(notes)


def _alone(task: Task, settings: Settings, link: Link, record: ActiveRecord, reason: str) -> Outcome:
    """The active party by itself."""
    frame, part = task.frame, msgspec.json.encode(record)
    own = answered(load(part, {}).sub_scores(frame.values[task.test]).log_odds, link)
    task.report(Step("predict", 1, 1))
    return Outcome(
        part=part,
        combiner=Combiner([], fell_back=reason, link=link),
        baseline=own,
        probability=own,
        settings=settings.model_dump(),
        notes=(f"The run fell back to {frame.party} alone: {reason}.",),
    )
