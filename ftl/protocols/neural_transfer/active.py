"""The active party's program: its own model first, then both networks, then what the network's answer is worth."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import ConsortiumError, ProtocolError
from ftl.protocols.base import Base, fit_base, out_of_fold
from ftl.protocols.neural_transfer import margins
from ftl.protocols.neural_transfer.calibration import Calibration, calibrate
from ftl.protocols.neural_transfer.exchange import Keys, active_exchange, generate, join
from ftl.protocols.neural_transfer.gradients import ActiveTerms
from ftl.protocols.neural_transfer.inputs import fit_inputs, with_constant
from ftl.protocols.neural_transfer.messages import Ready, Start, Working, receive, send
from ftl.protocols.neural_transfer.network import Network, slope
from ftl.protocols.neural_transfer.parts import ActiveRecord, attainable
from ftl.protocols.neural_transfer.people import split
from ftl.protocols.neural_transfer.settings import Plan, Settings
from ftl.protocols.recipe import Alone, Combiner, Layer, Outcome, Step, Task
from ftl.protocols.trees import probability

Floats = NDArray[np.float64]

LEAST_OF_A_CLASS = 5
"""Shared people of either class below which nothing can be learned or checked."""


@dataclass(frozen=True)
class _Own:
    """The active party's model, and what it says of its labelled training rows when it has not seen them."""

    base: Base
    honest: Floats


@dataclass(frozen=True)
class _Joint:
    """What the networks came to.

    Attributes:
        centre: phi.
        calibration: of the margin.
        margin: of the people of the holdout.
    """

    centre: Floats
    calibration: Calibration
    margin: Floats


def run_active(task: Task, settings: Settings) -> Outcome:
    """Train, score the holdout, and leave the active party's part.

    Raises:
        ConsortiumError: there is more than one other party.
        ProtocolError: the passive party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    if len(task.channel.peers) != 1:
        raise ConsortiumError(
            f"neural_transfer is for two parties, not {len(task.channel.peers) + 1}.",
            cure="Choose one passive party, or another recipe.",
        )
    own = _fit_own(task)
    joint, reason = _train(task, settings, own)
    frame, calibration = task.frame, joint.calibration if joint else Calibration()
    record = ActiveRecord(frame.columns, own.base.ensemble, calibration.own, calibration.centre, attainable(frame))
    base = own.base.log_odds(frame.values[task.test])
    task.report(Step("predict", 1, 1))
    chosen: dict[str, Any] = {**settings.model_dump(), "base": own.base.settings}
    part, baseline = msgspec.json.encode(record), probability(base)
    if joint is None:
        note = f"The run fell back to {frame.party} alone: {reason}."
        return Outcome(part, Combiner([], fell_back=reason), baseline, baseline, settings=chosen, notes=(note,))
    alone = calibration.slope * joint.margin + calibration.offset
    answer = alone + calibration.own * (base - calibration.centre)
    peer = task.channel.peers[0]
    return Outcome(
        part=part,
        combiner=_combiner(peer, joint),
        baseline=baseline,
        probability=probability(answer),
        alone={peer: probability(alone)},
        settings={**chosen, "slope": calibration.slope, "own": calibration.own},
        notes=_notes(peer, calibration, settings),
    )


def _fit_own(task: Task) -> _Own:
    """Fit the base and its out-of-fold log-odds; tells the other party that work is under way."""
    frame, rows = task.frame, _labelled(task)
    values, label = frame.values[rows], _labels(task)[rows]

    def progress(done: int, of: int) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=False))
        task.report(Step("base", done, of))

    base = fit_base(values, label, frame.categorical, task.seed, progress)
    honest = np.full(len(frame.values), np.nan)
    honest[rows] = out_of_fold(values, label, frame.categorical, base, task.seed, progress)
    for party in task.channel.peers:
        send(task, party, "base", Working(done=True))
    return _Own(base, honest)


def _labels(task: Task) -> Floats:
    if task.frame.label is None or task.frame.holdout is None:
        raise ProtocolError(f"{task.frame.party!r} is the active party but its frame has no label.")
    if task.frame.kind != "binary":
        raise ConsortiumError(
            f"neural_transfer answers good or bad; the label of {task.frame.party!r} is of kind {task.frame.kind!r}.",
            cure="Choose a recipe for numbers or classes.",
        )
    return task.frame.label


def _labelled(task: Task) -> NDArray[np.int64]:
    """Rows with a label, outside the holdout."""
    label, holdout = _labels(task), task.frame.holdout
    return np.flatnonzero(~np.isnan(label) & ~(holdout if holdout is not None else np.zeros(len(label), dtype=bool)))


def _train(task: Task, settings: Settings, own: _Own) -> tuple[_Joint | None, str]:
    """Train with the passive party; or why not."""
    peer, labelled = task.channel.peers[0], _labelled(task)
    if not np.isin(task.train, labelled).all():
        raise ProtocolError(
            f"{task.frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    calibration = settings.calibration_people(len(task.train))
    trained, held = split(task.train, calibration, task.seed)
    if reason := _hopeless(task, settings, trained, held):
        send(task, peer, "start", Start(None))
        return None, reason
    matrix = with_constant(fit_inputs(task.frame, standardize=settings.standardize).matrix(task.frame.values))
    keys = generate(settings.protection)
    shape = (settings.hidden, settings.epochs, settings.protection, matrix.shape[1])
    plan = Plan(len(task.train), calibration, len(task.test), *shape)
    send(task, peer, "start", Start(plan, [key.public() for key in keys]))
    ready = receive(task, peer, "ready", Ready)
    if ready.inputs < 1:
        return None, f"{peer} has no column that tells people apart"
    both = join(keys, ready.publics, peer)
    rows = np.concatenate([trained, np.setdiff1d(labelled, task.train)])
    centre = _Training(task, settings, plan, both, ready.inputs).run(matrix[rows], _labels(task)[rows], len(trained))
    return _finish(task, own, both, centre, held)


def _finish(task: Task, own: _Own, keys: Keys, centre: Floats, held: NDArray[np.int64]) -> tuple[_Joint | None, str]:
    """Learn margins of people who were not trained on, and what they are worth."""
    peer, calibration, useless = task.channel.peers[0], Calibration(), False
    if len(held):
        margin = margins.ask(task, peer, keys.own[0], centre, len(held))
        calibration = calibrate(margin, own.honest[held], _labels(task)[held])
        useless = calibration.slope == 0
    margin = np.empty(0)
    if len(task.test):
        margin = margins.ask(task, peer, keys.own[0], centre, len(task.test))
    if useless:
        return None, "the network did not rank shared people whom it had not seen"
    return _Joint(centre, calibration, margin), ""


def _hopeless(task: Task, settings: Settings, trained: NDArray[np.int64], held: NDArray[np.int64]) -> str:
    """Why no network can be trained, or nothing."""
    if len(task.train) < settings.min_shared:
        return f"{len(task.train)} shared training people are fewer than {settings.min_shared}"
    for rows, name in ((trained, "training"), (held, "calibration")):
        label = _labels(task)[rows]
        if len(rows) and min(label.sum(), (1 - label).sum()) < LEAST_OF_A_CLASS:
            return f"the shared people kept for {name} have fewer than {LEAST_OF_A_CLASS} of one class"
    return ""


@dataclass(frozen=True)
class _Training:
    """The epochs of one run, seen from the active party."""

    task: Task
    settings: Settings
    plan: Plan
    keys: Keys
    inputs: int

    def run(self, x: Floats, label: Floats, shared: int) -> Floats:
        """Train; returns phi of the last epoch, shape (d,).

        Args:
            x: inputs of all N labelled people, the shared ones first.
            label: shape (N,), 1 is bad.
            shared: how many are shared.
        """
        task, settings, plan = self.task, self.settings, self.plan
        exchange = active_exchange(task, task.channel.peers[0], plan, self.inputs, self.keys, settings.noise)
        party, done = task.frame.party, 0
        network = Network(plan.inputs, plan.hidden, settings.learning_rate, settings.initial_scale, task.seed, party)
        if (kept := task.checkpoints.latest()) is not None:
            done = kept[0]
            network.restore(kept[1], party)
        sign = 2 * label - 1
        for epoch in range(done, plan.epochs):
            terms = self._terms(network, x, sign, shared)
            network.step(settings.task_weight * exchange.gradient(epoch, terms))
            if (epoch + 1) % settings.checkpoint_every == 0:
                task.checkpoints.save(epoch + 1, network.save())
            task.report(Step("train", epoch + 1, plan.epochs))
        return np.asarray((sign[:, None] * network.hidden(x)).mean(axis=0))

    def _terms(self, network: Network, x: Floats, sign: Floats, shared: int) -> ActiveTerms:
        hidden = network.hidden(x)
        steep = slope(hidden)
        return ActiveTerms(
            x=x[:shared],
            hidden=hidden[:shared],
            slope=steep[:shared],
            sign=sign[:shared],
            centre=(sign[:, None] * hidden).mean(axis=0),
            spread=x.T @ (sign[:, None] * steep) / len(x),
            alignment=1.0 / (self.settings.task_weight * self.plan.hidden),
        )


def _combiner(peer: str, joint: _Joint) -> Combiner:
    """For whomever the passive party knows: its vector times phi; the active party's share where it knows them too."""
    weights = [[value] for value in (joint.calibration.slope * joint.centre).tolist()]
    return Combiner(
        [],
        offset=joint.calibration.offset,
        parties=[peer],
        network=[Layer(weights, [0.0])],
        alone={peer: Alone(0.0, [])},  # no trees: whoever it knows has a joint margin, with or without the active party
    )


def _notes(peer: str, calibration: Calibration, settings: Settings) -> tuple[str, ...]:
    if not settings.calibration:
        return (f"The answer is {peer}'s network alone, not calibrated: no shared people were kept for that.",)
    return () if calibration.own else ("The active party's own model does not count in the joint answer.",)
