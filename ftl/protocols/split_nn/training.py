"""The rounds of a run, seen from the active party."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import SecretCipher
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.recipe import Step, Task
from ftl.protocols.split_nn.groups import Groups
from ftl.protocols.split_nn.messages import (
    Answer,
    Blinded,
    Gradients,
    Verdict,
    receive,
    receive_vectors,
    send,
)
from ftl.protocols.split_nn.network import Upper
from ftl.protocols.split_nn.noise import gaussian
from ftl.protocols.split_nn.sealing import FRACTION, WORD, Sealing
from ftl.protocols.split_nn.settings import Plan, Settings


def farthest(noise: float) -> float:
    """A released number is never larger: length 1, and noise of at most 8.3 standard deviations."""
    return 1 + 9 * noise


@dataclass
class Best:
    """The best round so far.

    Attributes:
        number: of the round, from 1; 0 is the base alone.
        loss: on the validation people.
        arrays: the network's parameters after it.
    """

    number: int
    loss: float
    arrays: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass
class Training:
    """One run's rounds.

    Attributes:
        task: of the active party.
        plan: agreed.
        settings: of the run.
        partners: passive party to its number of buckets in each column, of those that have any.
        cipher: of this run.
        groups: who trains when.
        network: the active party's.
        key: of its noise.
        best: the best round so far.
        done: rounds finished.
        more: whether another follows.
    """

    task: Task
    plan: Plan
    settings: Settings
    partners: dict[str, list[int]]
    cipher: SecretCipher
    groups: Groups
    network: Upper
    key: bytes
    best: Best
    done: int = 0
    more: bool = True

    def round(self) -> None:
        """One pass over all batches, and the verdict on it."""
        number = self.done + 1
        for batch, people in enumerate(self.groups.batches):
            self._exchange(number, batch, people)
        held = self.groups.validation
        vectors = self._vectors(f"round/{number}/validation", len(held))
        margins = self.network.margins(held, vectors)
        loss = self.network.loss(held, margins)
        improved = loss < self.best.loss
        if improved:
            self.best = Best(number, loss, self.network.arrays())
        self.done = number
        self.more = number < self.plan.rounds and number - self.best.number < self.settings.patience
        for party in self.partners:
            send(self.task, party, f"round/{number}/verdict", Verdict(improved, self.more))
        self.task.report(Step("train", number, self.plan.rounds, self._metrics(loss, margins)))

    def _exchange(self, number: int, batch: int, people: NDArray[np.int64]) -> None:
        """Train on what is released for a batch, and answer with sums of gradients."""
        topic = f"round/{number}/%s/{batch}"
        vectors = self._vectors(topic % "vectors", len(people))
        self.network.fit(people, vectors, np.random.default_rng([self.task.seed, 6, number, batch]))
        gradients = self.network.gradients(people, vectors)
        sealing = Sealing(len(people), self.plan.width, self.cipher.capacity)
        for party, own in zip(self.partners, np.split(gradients, len(self.partners), axis=1), strict=True):
            sealed = [self.cipher.dump(self.cipher.encrypt(group)) for group in sealing.seal(bounded(own))]
            send(self.task, party, topic % "gradients", Gradients(sealed))
        for party in self.partners:
            answer = self._answer(sealing, party, topic % "blinded", f"{party}/{number}/{batch}")
            send(self.task, party, topic % "answer", Answer(answer))

    def _vectors(self, topic: str, people: int) -> NDArray[np.float64]:
        width, most = self.plan.width, farthest(self.plan.noise)
        return np.concatenate(
            [receive_vectors(self.task, party, topic, people, width, most) for party in self.partners], axis=1
        )

    def _answer(self, sealing: Sealing, party: str, topic: str, draw: str) -> NDArray[np.int64]:
        """Decrypt a party's blinded sums, see that each is over enough people, and add noise.

        Raises:
            ProtocolError: the party asks for something else than sums over its buckets.
        """
        buckets = self.partners[party]
        dumps = receive(self.task, party, topic, Blinded).ciphertexts
        if len(dumps) != len(sealing.groups):
            raise ProtocolError(f"{party!r} sent {len(dumps)} groups of sums where {len(sealing.groups)} were due.")
        try:
            loaded = [self.cipher.load(dump, sum(buckets)) for dump in dumps]
            counts, sums = sealing.opened([self.cipher.decrypt(group, sealing.bits) for group in loaded])
        except CipherError as exc:
            raise ProtocolError(f"{party!r} sent sums that cannot be read: {exc.message}", cure=exc.cure) from exc
        self._check(party, buckets, counts, sealing.people)
        noise = self.settings.gradient_noise * gaussian(self.key, f"answer/{draw}", sums.shape)
        return np.asarray((sums + np.rint(np.ldexp(noise, FRACTION)).astype(np.int64)) % (1 << WORD))

    def _check(self, party: str, buckets: list[int], counts: NDArray[np.int64], people: int) -> None:
        columns = np.split(counts, np.cumsum(buckets)[:-1])
        if counts.min() < self.plan.min_bucket or any(column.sum() != people for column in columns):
            raise ProtocolError(
                f"{party!r} asked for sums of gradients that are not over all {people} people of the batch, at least "
                f"{self.plan.min_bucket} in each.",
                cure=f"Check that {party!r} runs the same version with the same settings.",
            )

    def _metrics(self, loss: float, margins: NDArray[np.float64]) -> dict[str, float]:
        metrics = {"validation_loss": loss}
        label = self.network.target.label[self.groups.validation]
        if self.network.target.kind == "binary" and 0 < label.sum() < len(label):
            from sklearn.metrics import roc_auc_score

            metrics["validation_auc"] = float(roc_auc_score(label, margins[:, 0]))
        return metrics


def bounded(gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradients in units of a long one's length, cut to length 1: nobody moves a sum by more.

    The unit is the length that 19 in 20 stay within. Passive parties need not know it, since Adam's steps do not depend
    on the scale.
    """
    length = np.sqrt((gradients * gradients).sum(axis=1, keepdims=True))
    unit = float(np.quantile(length, 0.95)) or 1.0
    return np.asarray(gradients / np.maximum(length, unit))
