"""A passive party's program: its columns, its coefficients, and its side of the exchanges."""

from functools import partial

import msgspec
import numpy as np

from ftl.channel import encode
from ftl.crypto.lattice import LatticeKey, LatticePublic
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.hetero_linear.design import Design, fit_design
from ftl.protocols.hetero_linear.exchange import PRIME, Exchange
from ftl.protocols.hetero_linear.fitting import LAST, Fit, State, block_of, note_on, resumed
from ftl.protocols.hetero_linear.fixed import Floats
from ftl.protocols.hetero_linear.information import TOPIC, Weights, tell_free
from ftl.protocols.hetero_linear.messages import Finish, Ready, Report, Scores, Start, Taking, Working, receive, send
from ftl.protocols.hetero_linear.newton import Step
from ftl.protocols.hetero_linear.pads import Pads
from ftl.protocols.hetero_linear.parts import PassiveRecord, Share, share_of
from ftl.protocols.hetero_linear.residuals import passive_shares, slope_bits, steps_of
from ftl.protocols.hetero_linear.settings import Plan, Settings
from ftl.protocols.hetero_linear.table import FILE, deviations, table
from ftl.protocols.recipe import Outcome, Task


def run_passive(task: Task, settings: Settings) -> Outcome:
    """Take part in the fit and leave this party's part.

    Raises:
        ProtocolError: another party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    while not receive(task, task.active, "base", Working).done:
        pass
    start = receive(task, task.active, "start", Start)
    if start.plan is None:
        return _outcome(task, None)
    plan = _checked(task, start.plan, settings)
    design = fit_design(task.frame, task.train, plan.min_rows)
    exchange = _join(task, plan, start, len(design.terms))
    if exchange is None:
        return _outcome(task, None)
    fit = _fit(task, exchange, design)
    _rounds(fit)
    variances = _information(fit) if plan.standard_errors else None
    return _finish(task, fit, design, variances)


def _checked(task: Task, plan: Plan, settings: Settings) -> Plan:
    """Refuse a plan that asks for sums over fewer people, or for finer ones, than this party's settings allow."""
    active = task.active
    if plan.people != len(task.train) or plan.test != len(task.test):
        raise ProtocolError(
            f"{active!r} plans for {plan.people} people and {plan.test} of the holdout; {len(task.train)} and "
            f"{len(task.test)} are shared."
        )
    planned = (plan.people, plan.min_rows, plan.people_per_column)
    allowed = (settings.min_shared, settings.min_rows, settings.people_per_column)
    if any(one < least for one, least in zip(planned, allowed, strict=True)):
        raise ProtocolError(
            f"{active!r} plans sums over too few people.", cure="See that all parties have the same settings."
        )
    if not (1 <= plan.rounds <= settings.rounds and 1 <= plan.memory <= settings.memory):
        raise ProtocolError(f"{active!r} plans {plan.rounds} rounds that remember {plan.memory} steps.")
    bits = (plan.value_bits, plan.feature_bits, plan.factor_bits, plan.moment_bits)
    if not all(4 <= each <= 44 for each in bits) or not 0 < plan.curvature < 1e6:
        raise ProtocolError(f"{active!r} plans with numbers that cannot be computed with.")
    return plan


def _join(task: Task, plan: Plan, start: Start, columns: int) -> Exchange | None:
    """Swap keys with everybody; None if this party does not take part."""
    key, pads = LatticeKey(PRIME), Pads()
    mine = Ready(columns, key.public(), pads.point)
    for party in task.channel.peers:
        send(task, party, "ready", mine)
    keys = {task.active: (start.public, start.point)}
    for party in task.channel.peers:
        if party != task.active:
            ready = receive(task, party, "ready", Ready)
            keys[party] = ready.public, ready.point
    taking = receive(task, task.active, "taking", Taking).columns
    known = {*task.channel.peers, task.frame.party}
    if next(iter(taking), "") != task.active or not set(taking) <= known:
        raise ProtocolError(f"{task.active!r} named parties that are not in this run.")
    if task.frame.party not in taking:
        return None
    if taking[task.frame.party] != columns or max(taking.values()) * plan.people_per_column > plan.people:
        raise ProtocolError(f"{task.active!r} named a number of columns that cannot be.")
    others = {party: keys[party] for party in taking if party != task.frame.party}
    return Exchange(task, plan, key, read_keys(others, pads), pads, taking)


def read_keys(keys: dict[str, tuple[bytes, bytes]], pads: Pads) -> dict[str, LatticePublic]:
    """Other parties' public keys for ciphertexts; those for pads are agreed on.

    Raises:
        ProtocolError: one is none; names the party.
    """
    found = {}
    for party, (public, point) in keys.items():
        pads.agree(party, point)
        try:
            found[party] = LatticePublic(PRIME, public)
        except CipherError as exc:
            raise ProtocolError(f"{party!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
    return found


def _fit(task: Task, exchange: Exchange, design: Design) -> Fit:
    plan = exchange.plan
    matrix = design.matrix(task.frame.values[task.train])
    signs = np.array([term.sign for term in design.terms], dtype=np.int64)
    metric = plan.curvature * matrix.T @ matrix / plan.people
    block = block_of(plan, metric, np.zeros(matrix.shape[1]), signs, intercept=False)
    return Fit(exchange, matrix, block)


def _rounds(fit: Fit) -> None:
    """Gradient by gradient, until the active party says that it was the last."""
    exchange, task = fit.exchange, fit.exchange.task
    found = resumed(task)
    number, done = (found[0], found[1].done) if found else (0, False)
    if number != exchange.plan.first:
        raise ProtocolError(f"{task.active!r} goes on with round {exchange.plan.first}, where {number} is next here.")
    if found:
        fit.block.restore(found[1].memory)
    while not done:
        topic = f"round/{number}"
        held = None
        if number:  # before, the active party alone knows everybody's residual
            early = partial(fit.offer, topic)
            held = passive_shares(exchange, topic, fit.margin, fit.random(number), early=early)
        masks = fit.multiply(topic, exchange.parties[: 2 if number else 1])
        products = fit.block.take(fit.collect(topic, held, masks))
        ahead = np.abs(fit.margin) + np.abs(fit.matrix @ fit.block.newton_step)
        send(task, task.active, f"{topic}/report", Report(products, steps_of(ahead)))
        step = receive(task, task.active, f"{topic}/step", Step)
        _require_step(task, topic, step, len(products.step_gradient))
        fit.block.move(step)
        number, done = number + 1, step.last
        if not done and number >= exchange.plan.rounds:
            raise ProtocolError(f"{task.active!r} wants more rounds than were planned.")
        task.checkpoints.save(number, encode(State(fit.block.state(), done)))


def _require_step(task: Task, topic: str, step: Step, remembered: int) -> None:
    for factors in (step.steps, step.changes):
        if factors.shape != (remembered,) or not np.isfinite(factors).all() or not np.isfinite(step.gradient):
            raise ProtocolError(f"{task.active!r} sent under {topic}/step what is no step.")


def _information(fit: Fit) -> Floats | None:
    """Covariance of the coefficients that move, in units of the residuals' variance."""
    exchange = fit.exchange
    said = tell_free(exchange, fit.block.free, fit.block.along)
    random = fit.random(LAST)
    held, holders, bits = None, exchange.parties[:1], exchange.plan.residual_bits
    if exchange.plan.link == "logit":
        held = passive_shares(exchange, TOPIC, fit.margin, random, slope=True)
        holders, bits = exchange.parties[:2], exchange.plan.feature_bits + slope_bits(exchange)
    else:
        residuals = passive_shares(exchange, f"{TOPIC}/residuals", fit.margin, random)
        widths = [1, *[0] * (len(exchange.parties) - 1)]
        shares = None if residuals is None else residuals[:, None]
        exchange.inner(f"{TOPIC}/residuals", shares, exchange.parties[:2], 1, None, widths)
        bits = exchange.plan.feature_bits
    return fit.covariance(Weights(held, holders, bits), said)


def _finish(task: Task, fit: Fit, design: Design, found: Floats | None) -> Outcome:
    told = receive(task, task.active, "finish", Finish)
    if not (0 < told.scale < np.inf and 0 <= told.variance < np.inf and told.freedom >= 0):
        raise ProtocolError(f"{task.active!r} sent a scale or a variance that cannot be.")
    coefficients = told.scale * fit.block.coefficients
    share = share_of(task.frame.columns, design, coefficients, task.frame.values[task.train])
    test = design.matrix(task.frame.values[task.test]) @ coefficients
    send(task, task.active, "scores", Scores(test))
    scaled = None if found is None else found * told.variance * told.scale**2
    note = note_on(fit.exchange.plan, found is not None)
    rows = table(design.names(task.frame), deviations(design), coefficients, fit.block.free, scaled, told.freedom, note)
    return _outcome(task, share, {FILE: rows})


def _outcome(task: Task, share: Share | None, private: dict[str, bytes] | None = None) -> Outcome:
    return Outcome(msgspec.json.encode(PassiveRecord(task.frame.columns, share)), private=private or {})
