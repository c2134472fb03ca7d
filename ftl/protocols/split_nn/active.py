"""The active party's program: fits its own model, then trains the network above all parties' vectors."""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import AdditiveScheme, SecretCipher
from ftl.errors import FeatureError
from ftl.protocols.base import Base
from ftl.protocols.combine import answer
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task
from ftl.protocols.split_nn.budget import DELTA, epsilon
from ftl.protocols.split_nn.embedding import Buckets
from ftl.protocols.split_nn.groups import Groups
from ftl.protocols.split_nn.messages import Kept, Ready, Working, receive, receive_vectors, send
from ftl.protocols.split_nn.messages import Start as StartMessage
from ftl.protocols.split_nn.network import Own, Upper
from ftl.protocols.split_nn.noise import secret_key
from ftl.protocols.split_nn.parts import ActiveRecord, attainable, load, said_by_base
from ftl.protocols.split_nn.settings import Plan, Settings
from ftl.protocols.split_nn.start import Start, fit_start, labels, target
from ftl.protocols.split_nn.training import Best, Training, farthest
from ftl.protocols.trees import Ensemble, probability

LEAST_OF_A_CLASS = 10
"""Shared people of either class below which nothing can be learned or checked."""


class Saved(msgspec.Struct, frozen=True):
    """The active party's state after a round; stays at the node."""

    base: Ensemble | None
    base_settings: dict[str, float]
    honest: NDArray[np.float64]
    arrays: list[NDArray[np.float64]]
    moments: list[NDArray[np.float64]]
    best_number: int
    best_loss: float
    best_arrays: list[NDArray[np.float64]]
    more: bool


def run_active(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Train, score the holdout, and leave the active party's part.

    Raises:
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
    """
    found = task.checkpoints.latest()
    saved = decode(found[1], Saved, sender=task.frame.party, topic="checkpoint") if found else None
    start = _start(task, saved)
    plan = settings.plan(len(task.train))
    reason = _hopeless(task, settings)
    cipher = None if reason else scheme.generate()
    partners = _invite(task, plan, cipher)
    if not reason and not partners:
        reason = "no other party has a column with two buckets of shared people"
    if reason or cipher is None:
        return _alone(task, settings, start, reason, {})
    goal = target(task, start)
    own, buckets = _own(task, settings, start)
    network = Upper(own, goal, plan.width * len(partners), settings, task.seed)
    groups = Groups.draw(plan, task.seed)
    before = Best(0, _loss_before(task, network, groups))
    key = secret_key(task.frame, task.seed)
    training = Training(task, plan, settings, partners, cipher, groups, network, key, before)
    if found and saved:
        network.restore(saved.arrays, saved.moments)
        training.best = Best(saved.best_number, saved.best_loss, saved.best_arrays)
        training.done, training.more = found[0], saved.more
    while training.more:
        training.round()
        task.checkpoints.save(training.done, encode(_state(start, training)))
    record = _record(training)
    if not training.best.number:
        return _alone(task, settings, start, "the network did not help shared people it had not trained on", record)
    return _joint(task, settings, start, training, buckets, record)


def _start(task: Task, saved: Saved | None) -> Start:
    """The own model, fitted or taken up again; tells everybody who waits that work is under way."""

    def tell(*, done: bool) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=done))

    def progress(done: int, of: int) -> None:
        tell(done=False)
        task.report(Step("base", done, of))

    if saved is None:
        start = fit_start(task, progress)
    else:
        base = None if saved.base is None else Base(saved.base, len(task.frame.columns), saved.base_settings)
        start = Start(base, saved.honest)
    tell(done=True)
    return start


def _loss_before(task: Task, network: Upper, groups: Groups) -> float:
    """What the network has to beat: the base on the validation people; classes have no base to fall back to."""
    if task.frame.kind == "classes":
        return math.inf
    return network.loss(groups.validation, network.target.before[groups.validation])


def _state(start: Start, training: Training) -> Saved:
    base, best, network = start.base, training.best, training.network
    return Saved(
        base.ensemble if base else None,
        base.settings if base else {},
        start.honest,
        network.arrays(),
        network.moments(),
        best.number,
        best.loss,
        best.arrays,
        training.more,
    )


def _hopeless(task: Task, settings: Settings) -> str:
    """Why nothing can be trained, or nothing."""
    label = labels(task.frame)[task.train]
    if len(label) < settings.min_shared:
        return f"{len(label)} shared training people are fewer than {settings.min_shared}"
    counts = np.unique(label, return_counts=True)[1]
    if task.frame.kind != "number" and (len(counts) < 2 or sorted(counts)[-2] < LEAST_OF_A_CLASS):
        return f"the shared training people have fewer than {LEAST_OF_A_CLASS} of a second class"
    return ""


def _invite(task: Task, plan: Plan, cipher: SecretCipher | None) -> dict[str, list[int]]:
    """Start everybody; passive party to the buckets of its columns, of those that have any."""
    message = StartMessage(plan, cipher.public()) if cipher else StartMessage(None, b"")
    for party in task.channel.peers:
        send(task, party, "start", message)
    if cipher is None:
        return {}
    offered = {party: receive(task, party, "ready", Ready).buckets for party in task.channel.peers}
    return {party: buckets for party, buckets in offered.items() if buckets}


def _own(task: Task, settings: Settings, start: Start) -> tuple[Own, Buckets | None]:
    """What the active party brings into the network."""
    frame, shared = task.frame, len(task.train)
    said = np.empty((shared, 0))
    if start.base is not None:
        said = said_by_base(start.honest[task.train], *_spread(task, start))
    if settings.active_columns == "base" and start.base is not None:
        return Own(said, np.empty((shared, 0), dtype=np.int64), np.empty(0)), None
    buckets = Buckets(frame, (task.train,), settings.max_bins, settings.plan(shared).min_bucket)
    shares = np.bincount(buckets.codes.ravel(), minlength=buckets.total) / len(buckets.codes)
    return Own(said, buckets.codes[task.train], shares), buckets


def _spread(task: Task, start: Start) -> tuple[float, float]:
    """Mean and standard deviation of the base's margin over the shared training people."""
    margin = start.honest[task.train]
    return (float(margin.mean()), float(margin.std()) or 1.0) if len(margin) else (0.0, 1.0)


def _record(training: Training) -> dict[str, Any]:
    """What the rounds came to, and what they cost in privacy."""
    plan = training.plan
    cost = {name: epsilon(plan.noise, times) for name, times in (("release", 1), ("run", training.done))}
    return {
        "rounds_run": training.done,
        "rounds_kept": training.best.number,
        "batches": plan.batches,
        "min_bucket": plan.min_bucket,
        "noise": plan.noise,
        **{f"epsilon_{name}": value if math.isfinite(value) else None for name, value in cost.items()},
        "delta": DELTA,
    }


def _joint(
    task: Task, settings: Settings, start: Start, training: Training, buckets: Buckets | None, record: dict[str, Any]
) -> Outcome:
    frame, goal, arrays = task.frame, training.network.target, training.best.arrays
    for party in task.channel.peers:
        send(task, party, "kept", Kept(network=True))
    table = buckets.table(arrays[4]) if buckets else None
    part = _part(task, start, network=True, table=table)
    combiner = Combiner(
        [],
        parties=[frame.party, *training.partners],
        link=_link(frame.kind),
        outputs=goal.before.shape[1],
        offsets=goal.before[0].tolist() if frame.kind == "classes" else [],
        network=training.network.layers(arrays),
    )
    scores = {frame.party: load(part, {}).sub_scores(frame.values[task.test])}
    most = farthest(training.plan.noise if settings.noise_at_scoring else 0.0)
    for party in training.partners:
        hidden = receive_vectors(task, party, "test", len(task.test), training.plan.width, most)
        people = len(hidden)
        scores[party] = SubScores(
            np.ones(people, dtype=bool), np.zeros(people), np.empty((people, 0), dtype=np.uint64), hidden=hidden
        )
    task.report(Step("predict", 1, 1))
    return Outcome(
        part=part,
        combiner=combiner,
        baseline=_baseline(start, scores[frame.party], frame.kind),
        probability=answer(combiner, frame.party, scores),
        settings=_settled(settings, start, record),
        notes=_notes(task, record),
    )


def _alone(task: Task, settings: Settings, start: Start, reason: str, record: dict[str, Any]) -> Outcome:
    """The active party by itself.

    Raises:
        FeatureError: the label is of classes, for which it has no model of its own.
    """
    frame = task.frame
    for party in task.channel.peers:
        send(task, party, "kept", Kept(network=False))
    if start.base is None:
        raise FeatureError(
            f"No network for the classes of {frame.party!r} can be trained: {reason}.",
            cure="Share more people, or train on a label of two classes.",
        )
    part = _part(task, start, network=False, table=None)
    own = load(part, {}).sub_scores(frame.values[task.test])
    combiner = Combiner([], fell_back=reason, link=_link(frame.kind))
    baseline = _baseline(start, own, frame.kind)
    note = f"The run fell back to {frame.party} alone: {reason}."
    return Outcome(
        part=part,
        combiner=combiner,
        baseline=baseline,
        probability=baseline,
        settings=_settled(settings, start, record),
        notes=(note, *_notes(task, record)),
    )


def _part(task: Task, start: Start, *, network: bool, table: Any) -> bytes:
    base = start.base.ensemble if start.base is not None else None
    centre, spread = _spread(task, start)
    record = ActiveRecord(task.frame.columns, base, centre, spread, network, table, attainable(task.frame))
    return msgspec.json.encode(record)


def _baseline(start: Start, own: SubScores, kind: str) -> NDArray[np.float64] | None:
    if start.base is None:
        return None
    return probability(own.log_odds) if kind == "binary" else own.log_odds


def _link(kind: str) -> Any:
    return {"binary": "logit", "number": "identity", "classes": "softmax"}[kind]


def _settled(settings: Settings, start: Start, record: dict[str, Any]) -> dict[str, Any]:
    return {**settings.model_dump(), **record, "base": start.base.settings if start.base else {}}


def _notes(task: Task, record: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if record:
        cost = record["epsilon_run"]
        worth = f"epsilon {cost:.3g} at delta {DELTA:g}" if cost is not None else "no bound, since the noise was 0"
        notes.append(
            f"Every shared person's vector was released {record['rounds_run']} times with noise {record['noise']:.3g}: "
            f"{worth} for each passive party's columns."
        )
    if task.frame.monotone is not None and task.frame.monotone.any():
        notes.append("The declared directions of columns were not enforced: a network cannot keep them.")
    return tuple(notes)
