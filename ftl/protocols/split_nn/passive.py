"""A passive party's program: releases noisy vectors, and learns from blinded sums of gradients."""

import os
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import AdditiveScheme, PublicCipher
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.recipe import Outcome, Step, Task
from ftl.protocols.split_nn.embedding import Buckets, cut, summed
from ftl.protocols.split_nn.groups import Groups
from ftl.protocols.split_nn.messages import (
    Answer,
    Blinded,
    Gradients,
    Kept,
    Ready,
    Start,
    Vectors,
    Verdict,
    Working,
    receive,
    require_shape,
    send,
)
from ftl.protocols.split_nn.noise import gaussian, secret_key
from ftl.protocols.split_nn.optimiser import Adam
from ftl.protocols.split_nn.parts import PassiveRecord, load
from ftl.protocols.split_nn.sealing import WORD, Sealing
from ftl.protocols.split_nn.settings import Plan, Settings

BY = bool(os.environ.get("BY"))
FIRST = 0.3
"""Standard deviation of a first vector's numbers, over the square root of the columns."""


class Saved(msgspec.Struct, frozen=True):
    """A passive party's state after a round; stays at the node."""

    vectors: NDArray[np.float64]
    moments: list[NDArray[np.float64]]
    best: NDArray[np.float64]
    more: bool


def run_passive(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Take part in a run as a passive party.

    Raises:
        ProtocolError: the active party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    while not receive(task, task.active, "base", Working).done:
        pass
    start = receive(task, task.active, "start", Start)
    rounds = _train(task, settings, start, scheme) if start.plan is not None else None
    kept = receive(task, task.active, "kept", Kept).network
    key = secret_key(task.frame, task.seed)
    if not kept or rounds is None:
        return Outcome(msgspec.json.encode(PassiveRecord(task.frame.columns, None, 0.0, key.hex())))
    noise = rounds.plan.noise if settings.noise_at_scoring else 0.0
    table = rounds.buckets.table(rounds.best)
    part = msgspec.json.encode(PassiveRecord(task.frame.columns, table, noise, key.hex()))
    hidden = load(part, {}).sub_scores(task.frame.values[task.test]).hidden
    send(task, task.active, "test", Vectors(np.asarray(hidden, dtype=np.float32)))
    task.report(Step("predict", 1, 1))
    return Outcome(part)


def _train(task: Task, settings: Settings, start: Start, scheme: AdditiveScheme) -> "_Rounds | None":
    """Take part in all rounds; None when this party has no usable column."""
    plan = settings.plan(len(task.train))
    if start.plan != plan:
        raise ProtocolError(
            f"{task.active!r} plans with {start.plan}, {task.frame.party!r} with {plan}.",
            cure="Let all parties run with the same settings, and align again.",
        )
    groups = Groups.draw(plan, task.seed)
    rows = tuple(task.train[people] for people in groups.batches)
    buckets = Buckets(task.frame, rows, plan.max_bins, plan.min_bucket)
    send(task, task.active, "ready", Ready(buckets.counts))
    if not buckets.used:
        return None
    rounds = _Rounds(task, plan, settings, scheme.load_public(start.public), groups, buckets)
    found = task.checkpoints.latest()
    if found:
        rounds.restore(found[0], decode(found[1], Saved, sender=task.frame.party, topic="checkpoint"))
    while rounds.more:
        rounds.round()
        task.checkpoints.save(rounds.done, encode(rounds.state()))
        task.report(Step("train", rounds.done, plan.rounds))
    return rounds


@dataclass(frozen=True)
class _Batch:
    """A batch's people: int64 rows of the frame, their buckets by column as int8, and people per bucket."""

    rows: NDArray[np.int64]
    bins: NDArray[np.int8]
    counts: NDArray[np.int64]


class _Rounds:
    """The rounds of one run, seen from a passive party.

    Attributes:
        best: float64, shape (buckets, width): the vectors with which the best round was judged.
        done: rounds finished.
        more: whether another follows.
    """

    def __init__(
        self, task: Task, plan: Plan, settings: Settings, cipher: PublicCipher, groups: Groups, buckets: Buckets
    ) -> None:
        self.task, self.plan, self.settings, self.cipher = task, plan, settings, cipher
        self.groups, self.buckets = groups, buckets
        self._key = secret_key(task.frame, task.seed)
        first = gaussian(self._key, "table", (buckets.total, plan.width)) * FIRST / np.sqrt(len(buckets.used))
        self._vectors = first.copy()
        self._optimiser = Adam([self._vectors], settings.embedding_rate, by_array=True)
        self._batches = [self._batch(people) for people in groups.batches]
        self.best, self.done, self.more = first, 0, True

    def round(self) -> None:
        """Release and learn, batch by batch; then hear the verdict."""
        number, active = self.done + 1, self.task.active
        for batch in range(len(self._batches)):
            self._exchange(number, batch)
        self._release(f"round/{number}/validation", self.task.train[self.groups.validation])
        verdict = receive(self.task, active, f"round/{number}/verdict", Verdict)
        if verdict.best:
            self.best = self._vectors.copy()
        if verdict.more and number >= self.plan.rounds:
            raise ProtocolError(f"{active!r} wants more than the {self.plan.rounds} rounds that were agreed.")
        self.done, self.more = number, verdict.more

    def state(self) -> Saved:
        """What a later start needs."""
        return Saved(self._vectors, self._optimiser.moments(), self.best, self.more)

    def restore(self, number: int, saved: Saved) -> None:
        """Go on after round `number`."""
        self._vectors[...] = saved.vectors
        self._optimiser.restore(saved.moments)
        self.best, self.done, self.more = saved.best, number, saved.more

    def _exchange(self, number: int, batch: int) -> None:
        topic, these = f"round/{number}/%s/{batch}", self._batches[batch]
        self._release(topic % "vectors", these.rows)
        sealing = Sealing(len(these.rows), self.plan.width, self.cipher.capacity)
        gradients = receive(self.task, self.task.active, topic % "gradients", Gradients)
        blinds = sealing.blinds(self.buckets.total)
        send(self.task, self.task.active, topic % "blinded", self._blinded(sealing, gradients, these, blinds))
        answer = receive(self.task, self.task.active, topic % "answer", Answer)
        sums = self._sums(sealing, answer, these, blinds)
        # The cut to length 1 and the centring are passed over: what moves a sum moves its vector (straight through).
        self._optimiser.step([sums / len(these.rows)])
        # Vectors that most people's sums are cut from would only turn, and ever more slowly.
        self._vectors /= max(self.buckets.reach(self._vectors), 1.0)

    def _release(self, topic: str, rows: NDArray[np.int64]) -> None:
        """Send these people's vectors with fresh noise."""
        codes, centre = self.buckets.codes[rows], self.buckets.centre(self._vectors)
        vectors = cut(summed(self._vectors, codes) - centre)
        noisy = vectors + self.plan.noise * gaussian(self._key, topic, vectors.shape)
        send(self.task, self.task.active, topic, Vectors(noisy.astype(np.float32)))

    def _blinded(self, sealing: Sealing, gradients: Gradients, batch: _Batch, blinds: list[list[list[int]]]) -> Blinded:
        """Sums over buckets under encryption, blinded."""
        active, everybody = self.task.active, np.ones(len(batch.rows), dtype=bool)
        if len(gradients.ciphertexts) != len(sealing.groups):
            raise ProtocolError(f"{active!r} sent {len(gradients.ciphertexts)} groups of gradients.")
        dumps = []
        for data, drawn in zip(gradients.ciphertexts, blinds, strict=True):
            try:
                loaded = self.cipher.load(data, len(batch.rows))
            except CipherError as exc:
                raise ProtocolError(
                    f"{active!r} sent gradients that cannot be read: {exc.message}", cure=exc.cure
                ) from exc
            (sums,) = self.cipher.bucket_sums(loaded, [everybody], batch.bins, self.buckets.counts)
            dumps.append(self.cipher.dump(sealing.blinded(self.cipher, sums, drawn)))
        return Blinded(dumps)

    def _sums(
        self, sealing: Sealing, answer: Answer, batch: _Batch, blinds: list[list[list[int]]]
    ) -> NDArray[np.float64]:
        """Real sums of gradients with the active party's noise, float64, shape (buckets, width)."""
        active, sums = self.task.active, answer.sums
        require_shape(active, "answer", sums, (self.buckets.total, self.plan.width))
        if (sums < 0).any() or (sums >> WORD).any():
            raise ProtocolError(f"{active!r} answered with numbers outside 0 to 2^{WORD}.")
        real = sealing.answered(sums, blinds, batch.counts)
        if (np.abs(real) > batch.counts[:, None] + 9 * self.settings.gradient_noise + 1).any():
            raise ProtocolError(f"{active!r} answered with a sum of gradients that no {len(batch.rows)} people have.")
        return real

    def _batch(self, people: NDArray[np.int64]) -> _Batch:
        rows = self.task.train[people]
        codes = self.buckets.codes[rows]
        starts = np.cumsum([0, *self.buckets.counts])[:-1]
        counts = np.bincount(codes.ravel(), minlength=self.buckets.total)
        return _Batch(rows, np.ascontiguousarray((codes - starts).astype(np.int8)), counts)
