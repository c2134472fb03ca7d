"""The joint regression as the active party leads it: who takes part, round by round, and its information matrix."""

from dataclasses import dataclass

import numpy as np

from ftl.channel import encode
from ftl.crypto.lattice import LatticeKey
from ftl.errors import FeatureError, ProtocolError
from ftl.protocols.hetero_linear.alone import Link, Target, coefficients, mean_one
from ftl.protocols.hetero_linear.design import Design, fit_design
from ftl.protocols.hetero_linear.exchange import PRIME, Columns, Exchange
from ftl.protocols.hetero_linear.fitting import LAST, Fit, State, block_of, resumed
from ftl.protocols.hetero_linear.fixed import Floats, Layout, Residues, bits_left, real, rounded
from ftl.protocols.hetero_linear.information import TOPIC, Weights, tell_free
from ftl.protocols.hetero_linear.messages import (
    Ready,
    Report,
    Start,
    Taking,
    receive,
    require_shape,
    send,
)
from ftl.protocols.hetero_linear.newton import Recursion, total
from ftl.protocols.hetero_linear.pads import Pads
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
from ftl.protocols.recipe import Step, Task
from ftl.protocols.trees import probability

SPARE = 1.4
"""By how much residuals may grow beyond those at the start before sums of products no longer fit."""


@dataclass(frozen=True)
class Shared:
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


@dataclass(frozen=True)
class Joint:
    """A fitted joint regression, seen from the active party.

    Attributes:
        fit: its block, the intercept first.
        shared: what it brought.
        reach: sum of the passive parties' reach in half log-odds.
        rounds: how many were needed.
        moved: largest change of a coefficient in the last one.
    """

    fit: Fit
    shared: Shared
    reach: int
    rounds: int
    moved: float


def brought(task: Task, settings: Settings, link: Link, label: Floats) -> Shared:
    """What the active party brings; `label`, shape (n,), is that of the shared training people."""
    rows, weight = task.train, mean_one(task.frame, task.train)
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
    return Shared(Known(standard, weight), target, design, start, np.column_stack([np.ones(len(rows)), matrix]))


def _plan(task: Task, settings: Settings, link: Link, shared: Shared) -> Plan:
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


def invite(task: Task, settings: Settings, link: Link, shared: Shared) -> Exchange | None:
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


def fit_joint(task: Task, exchange: Exchange, shared: Shared, link: Link, tolerance: float) -> Joint:
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
    return Joint(fit, shared, sum(state.reach.values()), number, state.moved)


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


def information(joint: Joint) -> tuple[Floats | None, float, int]:
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
