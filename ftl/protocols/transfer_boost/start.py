"""What the active party knows before any exchange: its own model, and what it honestly says of its labelled rows."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import SecretCipher
from ftl.errors import ProtocolError
from ftl.protocols.base import Base, Labelled, fit, honest_margin
from ftl.protocols.boosting import Loss, Working, loss_of, packing_for, send
from ftl.protocols.recipe import Step, Task
from ftl.protocols.transfer_boost.settings import Settings
from ftl.protocols.transfer_boost.stages import Grown
from ftl.protocols.trees import Ensemble, probability

LEAST_OF_A_CLASS = 5
"""Shared people of either class below which nothing can be learned or checked."""
MOST_AHEAD = 100_000
"""Encryptions of zero that wait in memory, some 350 bytes each."""


@dataclass(frozen=True)
class Start:
    """The active party's own model and what it says of its labelled training rows.

    Attributes:
        base: the model.
        honest: float64, shape (n,): margin of each row of the frame by a model that has not seen it; NaN for rows
            without a label and of the holdout.
    """

    base: Base
    honest: NDArray[np.float64]


class State(msgspec.Struct):
    """What the active party keeps when its base is fitted and after every stage; not the key, which is drawn anew.

    Attributes:
        ensemble, columns, settings: of the base model.
        honest: float64, shape (n,); see :class:`Start`.
        partners: passive party to its number of candidates, none of them 0.
        stages: what finished stages left: *opinion*, then *label*.
    """

    ensemble: Ensemble
    columns: int
    settings: dict[str, float]
    honest: NDArray[np.float64]
    partners: dict[str, int] = {}
    stages: list[Grown] = []

    @property
    def start(self) -> Start:
        """The base and what it says."""
        return Start(Base(self.ensemble, self.columns, self.settings), self.honest)

    def save(self, task: Task) -> None:
        """Keep it: as number 1 after the base, one more after every stage."""
        task.checkpoints.save(1 + len(self.stages), encode(self))

    def finished(self, task: Task, stage: Grown) -> None:
        """Note what a stage left, and keep it."""
        self.stages.append(stage)
        self.save(task)


def begin(task: Task) -> State:
    """The state of a run that was broken off, or a new one; see :func:`fit_start`.

    Raises:
        FeatureError: too few labelled rows.
        ProtocolError: the frame has no label of good and bad, or of numbers.
    """
    latest = task.checkpoints.latest()
    if latest is not None:
        return decode(latest[1], State, sender=task.frame.party, topic="checkpoint")
    start = fit_start(task)
    state = State(start.base.ensemble, start.base.columns, start.base.settings, start.honest)
    state.save(task)
    return state


def prepare(task: Task, settings: Settings, cipher: SecretCipher) -> None:
    """Have the randomness of the run's encryptions drawn by another core while the active party fits its own model."""
    shared, peers = len(task.train), len(task.channel.peers)
    if shared < settings.min_shared:
        return
    schedule = settings.schedule(shared)
    runs = (
        -(-settings.folds * schedule.draws // trees_together(cipher, shared)) if schedule.depth == 1 else settings.folds
    )
    alone = settings.alone_rounds * (settings.folds - 1) * peers if settings.partner_only else 0
    cipher.ahead(min(shared * (runs * (settings.opinion_rounds + schedule.rounds) + alone), MOST_AHEAD))


def trees_together(cipher: SecretCipher, shared: int) -> int:
    """Trees of one level whose gradients, summed over `shared` people, fit into one plaintext."""
    return max(cipher.capacity // packing_for(shared).bits, 1)


@dataclass(frozen=True)
class People:
    """The active party's side of the shared training people.

    Attributes:
        loss: what is minimised.
        label: float64, shape (shared,).
        weight: float64, shape (shared,): 1 on average.
        base: float64, shape (shared,): honest margins.
    """

    loss: Loss
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    base: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(cls, task: Task, honest: NDArray[np.float64]) -> "People":
        """The task's training people.

        Raises:
            ProtocolError: some have no label, or are of the holdout.
        """
        label, holdout = _labels(task)
        if np.isnan(label[task.train]).any() or holdout[task.train].any():
            raise ProtocolError(
                f"{task.frame.party!r} was given shared training people without a label, or of the holdout.",
                cure="Train on labelled people outside the holdout only.",
            )
        given = task.frame.weight
        weight = np.ones(len(task.train)) if given is None else given[task.train]
        weight = weight / weight.mean() if len(weight) else weight
        return cls(loss_of(task.frame.kind, 0), label[task.train], weight, honest[task.train])

    def hopeless(self, min_shared: int) -> str:
        """Why no trees can be grown, or nothing."""
        if len(self.label) < min_shared:
            return f"{len(self.label)} shared training people are fewer than {min_shared}"
        if self.loss.link == "identity":
            return "" if self.label.min() < self.label.max() else "the shared training people have all the same number"
        if min(self.label.sum(), (1 - self.label).sum()) < LEAST_OF_A_CLASS:
            return f"the shared training people have fewer than {LEAST_OF_A_CLASS} of one class"
        return ""

    def answer(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of default, or the number; the same shape."""
        return probability(margin) if self.loss.link == "logit" else margin


def fit_start(task: Task) -> Start:
    """Fit the base and its out-of-fold margins; tells everybody who waits that work is under way.

    Raises:
        FeatureError: too few labelled rows.
        ProtocolError: the frame has no label of good and bad, or of numbers.
    """
    frame, (label, holdout) = task.frame, _labels(task)
    rows = np.flatnonzero(~np.isnan(label) & ~holdout)
    weight = None if frame.weight is None else frame.weight / frame.weight[rows].mean()
    every = Labelled(frame.values, label, frame.categorical, frame.kind, weight, frame.monotone)

    def progress(done: int, of: int) -> None:
        for party in task.channel.peers:
            send(task, party, "base", Working(done=False))
        task.report(Step("base", done, of))

    base = fit(every.of(rows), task.seed, progress)
    honest = np.full(len(label), np.nan)
    honest[rows] = honest_margin(every.of(rows), base, task.seed, progress)
    return Start(base, honest)


def _labels(task: Task) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    frame = task.frame
    if frame.label is None or frame.holdout is None:
        raise ProtocolError(f"{frame.party!r} is the active party but its frame has no label.")
    if frame.kind == "classes":
        raise ProtocolError(
            f"transfer_boost learns good and bad, or numbers; the label of {frame.party!r} has several classes.",
            cure="Use secure_boost, or a label of one class against the rest.",
        )
    return frame.label, frame.holdout
