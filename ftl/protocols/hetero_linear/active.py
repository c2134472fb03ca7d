"""The active party's program: its own model first, then the joint regression, then what its coefficients are worth."""

from dataclasses import dataclass

import msgspec
import numpy as np

from ftl.channel import encode
from ftl.crypto.lattice import LatticeKey
from ftl.errors import ConsortiumError, FeatureError, ProtocolError
from ftl.protocols.base import fit_base
from ftl.protocols.combine import answer
from ftl.protocols.hetero_linear.alone import Link, Target, answered, coefficients, fit_alone, mean_one
from ftl.protocols.hetero_linear.design import Design, fit_design
from ftl.protocols.hetero_linear.exchange import PRIME, Columns, Exchange
from ftl.protocols.hetero_linear.fitting import LAST, Fit, State, block_of, note_on, resumed
from ftl.protocols.hetero_linear.fixed import Floats, Layout, Residues, bits_left, real, rounded
from ftl.protocols.hetero_linear.information import TOPIC, Weights, tell_free
from ftl.protocols.hetero_linear.messages import (
    Finish,
    Ready,
    Report,
    Scores,
    Start,
    Taking,
    Working,
    receive,
    require_shape,
    send,
)
from ftl.protocols.hetero_linear.newton import Recursion, total
from ftl.protocols.hetero_linear.pads import Pads
from ftl.protocols.hetero_linear.parts import ActiveRecord, load, share_of
from ftl.protocols.hetero_linear.passive import read_keys
from ftl.protocols.hetero_linear.residuals import (
    ERROR_OF_WEIGHTS,
    FARTHEST,
    REACH_STEP,
    Known,
    begin_residuals,
    begin_sines,
    error_for,
    finish,
    frequencies,
    slope_bits,
    steps_of,
)
from ftl.protocols.hetero_linear.settings import Plan, Settings
from ftl.protocols.hetero_linear.table import FILE, deviations, table
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task
from ftl.protocols.trees import probability

SPARE = 1.4
"""By how much residuals may grow beyond those at the start before sums of products no longer fit."""

LEAST_OF_A_CLASS = 10
"""Shared people of either class below which nothing can be learned."""


@dataclass(frozen=True)
class _Joint:
    """A fitted joint regression, seen from the active party.

    Attributes:
        fit: its block, the intercept first.
        shared: what it brought.
        reach: sum of the passive parties' reach in half log-odds.
        rounds: how many were needed.
        moved: largest change of a coefficient in the last one.
    """

    fit: Fit
    shared: "_Shared"
    reach: int
    rounds: int
    moved: float


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
    shared = _shared(task, settings, link)
    exchange = _invite(task, settings, link, shared)
    if exchange is None:
        return _alone(task, settings, link, record, "no other party has a column that tells people apart")
    joint = _fit(task, exchange, shared, link, settings.tolerance)
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


@dataclass(frozen=True)
class _Shared:
    """What the active party brings to the joint regression.

    Attributes:
        known: labels and weights of the shared training people.
        target: the label's units.
        design: its terms.
        start: float64, shape (1 + p,): coefficients to begin with.
        matrix: float64, shape (n, 1 + p): the constant, then its terms.
    """

    known: Known
    target: Target
    design: Design
    start: Floats
    matrix: Floats

    def curvatures(self, link: Link) -> Floats:
        """Weight of each person in the information matrix at the start, shape (n,)."""
        if link == "identity":
            return self.known.weight
        chance = probability(self.matrix @ self.start)
        return np.asarray(self.known.weight * chance * (1 - chance))

    def spread(self, link: Link) -> float:
        """Root mean square of the residuals at the start: no mean product with an orthonormal column is larger."""
        margin = self.matrix @ self.start
        answers = margin if link == "identity" else probability(margin)
        return float(np.sqrt(np.mean((self.known.weight * (answers - self.known.label)) ** 2)))


def _shared(task: Task, settings: Settings, link: Link) -> _Shared:
    rows, weight = task.train, mean_one(task.frame, task.train)
    label = _label(task, link)[rows]
    target = Target.of(label, weight, link)
    design = fit_design(task.frame, rows, settings.min_rows)
    matrix = design.matrix(task.frame.values[rows])
    constrained = settings.l1 > 0 or settings.non_negative or any(term.sign for term in design.terms)
    standard = target.standard(label)
    start = np.zeros(1 + matrix.shape[1])
    if constrained:  # the unconstrained regression would begin on the wrong side
        start[0] = coefficients(matrix[:, :0], standard, weight, link, settings.l2)[0]
    else:
        start = coefficients(matrix, standard, weight, link, settings.l2)
    return _Shared(Known(standard, weight), target, design, start, np.column_stack([np.ones(len(rows)), matrix]))


def _plan(task: Task, settings: Settings, link: Link, shared: _Shared) -> Plan:
    """What the run agrees on; bits are shared out so that sums over all people just fit."""
    people, weight = len(task.train), shared.known.weight
    first = resumed(task)
    bits = bits_left(people, SPARE * shared.spread(link))
    value, feature = (bits * 8) // 31, (bits * 11) // 31
    return Plan(
        people=people,
        test=len(task.test),
        link=link,
        weighted=bool(np.ptp(weight) > 0),
        curvature=float(shared.curvatures(link).mean()),
        value_bits=value,
        feature_bits=feature,
        factor_bits=bits - value - feature,
        moment_bits=bits_left(people, float(weight.max())),
        l1=settings.l1,
        l2=settings.l2,
        non_negative=settings.non_negative,
        rounds=settings.rounds,
        memory=settings.memory,
        standard_errors=settings.standard_errors,
        min_rows=settings.min_rows,
        people_per_column=settings.people_per_column,
        first=first[0] if first else 0,
    )


def _invite(task: Task, settings: Settings, link: Link, shared: "_Shared") -> Exchange | None:
    """Start everybody; None when no passive party has a column to offer."""
    plan, key, pads = _plan(task, settings, link, shared), LatticeKey(PRIME), Pads()
    for party in task.channel.peers:
        send(task, party, "start", Start(plan, key.public(), pads.point))
    ready = {party: receive(task, party, "ready", Ready) for party in sorted(task.channel.peers)}
    most = plan.people // plan.people_per_column
    if shared.matrix.shape[1] > most:
        raise FeatureError(
            f"{task.frame.party!r} has {shared.matrix.shape[1]} columns for {plan.people} shared people.",
            cure=f"Use at most {most}.",
        )
    offering = {party: one for party, one in ready.items() if 1 <= one.columns <= most}
    columns = {task.frame.party: shared.matrix.shape[1]} | {party: one.columns for party, one in offering.items()}
    for party in task.channel.peers:
        send(task, party, "taking", Taking(columns))
    if not offering:
        return None
    publics = read_keys({party: (one.public, one.point) for party, one in offering.items()}, pads)
    return Exchange(task, plan, key, publics, pads, columns)


def _fit(task: Task, exchange: Exchange, shared: _Shared, link: Link, tolerance: float) -> _Joint:
    """Round by round to the joint regression."""
    plan, curvature = exchange.plan, shared.curvatures(link)
    metric = (shared.matrix * curvature[:, None]).T @ shared.matrix / plan.people
    signs = np.array([0, *(term.sign for term in shared.design.terms)], dtype=np.int64)
    fit = Fit(exchange, shared.matrix, block_of(plan, metric, shared.start, signs, intercept=True))
    found, recursion = resumed(task), Recursion()
    state = found[1] if found else State(fit.block.state(), done=False)
    fit.block.restore(state.memory)
    recursion.slope, recursion.way = state.slope, state.way
    number = plan.first
    while not state.done:
        state = _round(fit, recursion, shared.known, number, state, tolerance)
        number += 1
        task.checkpoints.save(number, encode(state))
        task.report(Step("train", number, plan.rounds, {"largest_step": state.moved}))
    return _Joint(fit, shared, sum(state.reach.values()), number, state.moved)


def _round(fit: Fit, recursion: Recursion, known: Known, number: int, state: State, tolerance: float) -> State:
    """One gradient and the step that follows from it."""
    exchange, topic = fit.exchange, f"round/{number}"
    task, plan, margin = exchange.task, exchange.plan, fit.margin
    random = fit.random(number)
    if number == 0:  # passive parties begin at 0, so the active one knows everybody's residual
        answers = margin if plan.link == "identity" else probability(margin)
        held = rounded(known.weight * (answers - known.label), plan.residual_bits, random)
        masks: dict[str, Residues] = {}
    else:
        chosen = None
        if plan.link == "logit":
            reach = REACH_STEP * (steps_of(margin) + sum(state.reach.values()))
            chosen = frequencies(exchange, topic, reach, error_for(state.moved))
        pending = begin_residuals(exchange, topic, margin, known, chosen, random)
        masks = fit.multiply(topic, [exchange.second])
        held = finish(exchange, topic, pending)
    fit.offer(topic, held)
    own = fit.block.take(fit.collect(topic, held, masks))
    reports = {party: _report(exchange, party, topic, len(own.step_gradient)) for party in exchange.others}
    products = total([own, *(report.products for report in reports.values())])
    last = products.largest <= tolerance or number + 1 >= plan.rounds
    step = recursion.next_step(products, last=last)
    for party in exchange.others:
        send(task, party, f"{topic}/step", step)
    fit.block.move(step)
    reach_said = {party: report.reach for party, report in reports.items()}
    return State(fit.block.state(), last, recursion.slope, recursion.way, products.largest, reach_said)


def _report(exchange: Exchange, party: str, topic: str, remembered: int) -> Report:
    report = receive(exchange.task, party, f"{topic}/report", Report)
    products, square = report.products, (remembered, remembered)
    require_shape(party, f"{topic}/report", products.step_change, square)
    require_shape(party, f"{topic}/report", products.change_change, square)
    require_shape(party, f"{topic}/report", products.step_gradient, (remembered,))
    require_shape(party, f"{topic}/report", products.change_gradient, (remembered,))
    scalars = (products.gradient, products.largest)
    if not np.isfinite(scalars).all() or min(scalars) < 0 or not 0 <= report.reach <= FARTHEST / REACH_STEP:
        raise ProtocolError(f"{party!r} sent under {topic}/report numbers that cannot be.")
    return report


def _information(joint: _Joint) -> tuple[Floats | None, float, int]:
    """Covariance of the own coefficients that move, the residuals' variance, and its degrees of freedom."""
    fit, known = joint.fit, joint.shared.known
    exchange, plan, random = fit.exchange, fit.exchange.plan, fit.random(LAST)
    said = tell_free(exchange, fit.block.free, fit.block.along)
    if plan.link == "logit":
        chosen = frequencies(exchange, TOPIC, REACH_STEP * (steps_of(fit.margin) + joint.reach), ERROR_OF_WEIGHTS)
        held = finish(exchange, TOPIC, begin_sines(exchange, TOPIC, fit.margin, known.weight, chosen, random))
        bits = plan.feature_bits + slope_bits(exchange)
        return fit.covariance(Weights(held, exchange.parties[:2], bits), said), 1.0, 0
    freedom = plan.people - sum(one.columns for one in said.values())
    variance = _squares(fit, known, random, sum(one.along for one in said.values())) / freedom
    held = rounded(known.weight, plan.feature_bits, random)
    return fit.covariance(Weights(held, exchange.parties[:1], plan.feature_bits), said), variance, freedom


def _squares(fit: Fit, known: Known, random: np.random.Generator, along: float) -> float:
    """Weighted sum of squared residuals: margins · residuals, as the gradients give it, less label · residuals."""
    exchange, plan, topic = fit.exchange, fit.exchange.plan, f"{TOPIC}/residuals"
    held = finish(exchange, topic, begin_residuals(exchange, topic, fit.margin, known, None, random))
    label = Columns(rounded(known.label[:, None], plan.value_bits, random), Layout(plan.people, 1))
    widths = [1, *[0] * (len(exchange.parties) - 1)]
    sums = exchange.inner(topic, held[:, None], exchange.parties[:2], 1, label, widths)
    product = 0.0 if sums is None else float(real(sums[:, 0], plan.residual_bits + plan.value_bits)[0])
    return max(plan.people * along - product, 0.0)


def _finish(task: Task, settings: Settings, link: Link, record: ActiveRecord, joint: _Joint) -> Outcome:
    """Standard errors, the part, and the answers for the holdout."""
    fit, target, design, frame = joint.fit, joint.shared.target, joint.shared.design, task.frame
    plan = fit.exchange.plan
    covariance, variance, freedom = _information(joint) if plan.standard_errors else (None, 1.0, 0)
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


def _notes(settings: Settings, joint: _Joint, note: str) -> tuple[str, ...]:
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
