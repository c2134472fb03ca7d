"""The passive party's program: trains its network on gradients that it learns only as sums over the shared people."""

import msgspec

from ftl.errors import ProtocolError
from ftl.protocols.neural_transfer import margins
from ftl.protocols.neural_transfer.exchange import generate, join, passive_exchange
from ftl.protocols.neural_transfer.gradients import PassiveTerms
from ftl.protocols.neural_transfer.inputs import Inputs, fit_inputs, with_constant
from ftl.protocols.neural_transfer.messages import Ready, Start, Working, receive, send
from ftl.protocols.neural_transfer.network import Network, slope
from ftl.protocols.neural_transfer.parts import PassiveRecord
from ftl.protocols.neural_transfer.people import split
from ftl.protocols.neural_transfer.settings import Plan, Settings
from ftl.protocols.recipe import Outcome, Step, Task


def run_passive(task: Task, settings: Settings) -> Outcome:
    """Take part in a run as the passive party.

    Raises:
        ProtocolError: the active party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    while not receive(task, task.active, "base", Working).done:
        pass
    start = receive(task, task.active, "start", Start)
    inputs = fit_inputs(task.frame, standardize=settings.standardize)
    if start.plan is None:
        return Outcome(_part(task, inputs, None))
    _check(task, settings, start.plan)
    count = with_constant(inputs.matrix(task.frame.values[:1])).shape[1]
    if count == 1:
        send(task, task.active, "ready", Ready(0))
        return Outcome(_part(task, inputs, None))
    network = _train(task, settings, start, inputs, count)
    return Outcome(_part(task, inputs, network))


def _check(task: Task, settings: Settings, plan: Plan) -> None:
    """Refuse a plan that is not of this task and these settings."""
    calibration = settings.calibration_people(len(task.train))
    expected = (len(task.train), calibration, len(task.test), settings.hidden, settings.epochs, settings.protection)
    if (plan.shared, plan.calibration, plan.test, plan.hidden, plan.epochs, plan.protection) != expected:
        raise ProtocolError(
            f"{task.active!r} plans another run than {task.frame.party!r}.",
            cure="Start it again; both must use the same shared people and settings.",
        )
    if plan.inputs < 1:
        raise ProtocolError(f"{task.active!r} plans a network of {plan.inputs} inputs.")


def _train(task: Task, settings: Settings, start: Start, inputs: Inputs, count: int) -> Network:
    plan = start.plan
    assert plan is not None  # noqa: S101  (for the type checker; the caller has looked)
    keys = join(generate(plan.protection), start.publics, task.active)
    send(task, task.active, "ready", Ready(count, [key.public() for key in keys.own]))
    exchange = passive_exchange(task, plan, count, keys, settings.noise)
    party = task.frame.party
    network = Network(count, plan.hidden, settings.learning_rate, settings.initial_scale, task.seed, party)
    matrix = with_constant(inputs.matrix(task.frame.values))
    trained, held = split(task.train, plan.calibration, task.seed)
    x, done = matrix[trained], 0
    if (kept := task.checkpoints.latest()) is not None:
        done = kept[0]
        network.restore(kept[1], party)
    for epoch in range(done, plan.epochs):
        hidden = network.hidden(x)
        network.step(settings.task_weight * exchange.gradient(epoch, PassiveTerms(x, hidden, slope(hidden))))
        if (epoch + 1) % settings.checkpoint_every == 0:
            task.checkpoints.save(epoch + 1, network.save())
        task.report(Step("train", epoch + 1, plan.epochs))
    for people in (held, task.test):
        if len(people):
            margins.answer(task, keys.others[0], network.hidden(matrix[people]))
    task.report(Step("predict", 1, 1))
    return network


def _part(task: Task, inputs: Inputs, network: Network | None) -> bytes:
    weights = () if network is None else tuple(map(tuple, network.weights.tolist()))
    return msgspec.json.encode(PassiveRecord(task.frame.columns, inputs, weights))
