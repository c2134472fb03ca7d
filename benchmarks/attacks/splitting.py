"""Attacks on `split_nn`: labels from gradients and their sums, columns from released vectors."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.figures import Figure, Floats, chance, either_way, plain, principal
from benchmarks.attacks.listening import SEED, Heard, OpenScheme
from benchmarks.attacks.model import direct, on_the_model, reconstructed
from benchmarks.attacks.population import SHARED
from ftl.protocols.split_nn.embedding import Buckets
from ftl.protocols.split_nn.groups import Groups
from ftl.protocols.split_nn.sealing import FRACTION, WORD, Sealing
from ftl.protocols.split_nn.settings import Plan, Settings

OFF = {"noise": 0.0, "gradient_noise": 0.0}
QUIET = "no noise on vectors and sums"
KEY = "the telecom has the bank's secret key, as in split learning without encryption"


class Gradients:
    """What the telecom would see of each person if it could decrypt, and the sums that it does see.

    Args:
        heard: the run.
        scheme: with the key.
        plan: of the run.
    """

    def __init__(self, heard: Heard, scheme: OpenScheme, plan: Plan) -> None:
        self._heard, self._scheme = heard, scheme
        people = Groups.draw(plan, SEED).batches
        telecom = heard.frames[1]
        self.buckets = Buckets(telecom, people, plan.max_bins, plan.min_bucket)
        self.rows = np.concatenate(people)
        self._batches = people
        self._width = plan.width
        self.sealed: Floats = np.zeros(SHARED)
        self.clear: Floats = np.zeros((SHARED, plan.width))
        self.sums: list[list[Floats]] = [[] for _ in people]
        self._read()

    def _read(self) -> None:
        answers = {topic: content["sums"] for topic, content in self._heard.said("bank", "answer")}
        blinded = {topic: content["ciphertexts"] for topic, content in self._heard.said("telecom", "blinded")}
        for topic, content in self._heard.said("bank", "gradients"):
            batch = int(topic.split("/")[-1])
            people = self._batches[batch]
            assert self._scheme.key is not None
            sealing = Sealing(len(people), self._width, self._scheme.key.capacity)
            gradients = self._people(sealing, content["ciphertexts"])
            self.clear[people] += gradients
            (first, *_) = content["ciphertexts"]
            size = len(first) // len(people)
            self.sealed[people] += [
                int.from_bytes(first[i * size + 2 : i * size + 6], "big") for i in range(len(people))
            ]
            noise = self._noise(
                sealing, answers[topic.replace("gradients", "answer")], blinded[topic.replace("gradients", "blinded")]
            )
            self.sums[batch].append(self._summed(people, gradients) + noise)

    def _people(self, sealing: Sealing, dumps: list[bytes]) -> Floats:
        """Every person's gradient, shape (people, width)."""
        plain_numbers = [np.array(self._scheme.opened(dump, sealing.people), dtype=object) for dump in dumps]
        _, biased = sealing.opened(plain_numbers)
        return np.ldexp((biased - sealing.bias).astype(float), -FRACTION)

    def _noise(self, sealing: Sealing, answer: NDArray[np.int64], dumps: list[bytes]) -> Floats:
        """What the bank added to the blinded sums before it answered."""
        numbers = [np.array(self._scheme.opened(dump, self.buckets.total), dtype=object) for dump in dumps]
        _, asked = sealing.opened(numbers)
        added = (answer - asked) % (1 << WORD)
        return np.ldexp(np.where(added >= 1 << (WORD - 1), added - (1 << WORD), added).astype(float), -FRACTION)

    def _summed(self, people: NDArray[np.int64], gradients: Floats) -> Floats:
        sums = np.zeros((self.buckets.total, self._width))
        for column in self.buckets.codes[people].T:
            np.add.at(sums, column, gradients)
        return sums

    def solved(self, people: NDArray[np.int64]) -> Floats:
        """Least-squares gradients of people that explain all sums received, shape (people, width)."""
        weights = []
        for batch, sums in zip(self._batches, self.sums, strict=True):
            members = _one_hot(self.buckets, batch)
            weights.append(np.linalg.lstsq(members.T @ members, np.mean(sums, axis=0), rcond=1e-8)[0])
        return np.asarray(_one_hot(self.buckets, people) @ np.mean(weights, axis=0))


def on_split_nn(heard: Heard, scheme: OpenScheme, bare: Heard, bare_scheme: OpenScheme, name: str) -> list[Figure]:
    """Attacks on a run with the defaults, and on one without noise."""
    settings = heard.recipe.settings({})
    with_noise = Gradients(heard, scheme, settings.plan(SHARED))
    without = Gradients(bare, bare_scheme, heard.recipe.settings(OFF).plan(SHARED))
    label = heard.frames[0].label
    assert label is not None
    bad = label == 1
    rows = with_noise.rows
    norm, direction = np.linalg.norm(without.clear, axis=1), np.zeros(SHARED)
    direction[rows] = principal(without.clear[rows])
    figures = [
        direct(name, "label from gradients: length", bad[rows], with_noise.sealed[rows], norm[rows], KEY),
        direct(name, "label from gradients: direction", bad[rows], with_noise.sealed[rows], direction[rows], KEY),
        *_from_sums(name, bad, with_noise, without),
        _from_vectors(name, heard, bare, settings),
    ]
    return [*figures, *_model(name, heard, bare)]


def _from_sums(name: str, bad: NDArray[np.bool_], on: Gradients, off: Gradients) -> list[Figure]:
    """Labels from sums of gradients: of those who trained, and of strangers, whom only the telecom's model tells of."""
    outsiders = np.arange(SHARED, len(bad))
    figures = []
    for who, people in (("who trained", on.rows), ("of strangers", outsiders)):
        scores = [either_way(bad[people], principal(each.solved(people))) for each in (on, off)]
        guess = chance(bad[people], principal(on.solved(people)), SEED)
        figures.append(Figure(name, f"label {who}, from sums of gradients", "telecom", guess, *scores, QUIET))
    return figures


def _from_vectors(name: str, heard: Heard, bare: Heard, settings: Settings) -> Figure:
    label = heard.frames[0].label
    assert label is not None
    people = Groups.draw(settings.plan(SHARED), SEED)
    known = np.column_stack([plain(heard.frames[0].values[:SHARED]), label[:SHARED]])
    guess, on = reconstructed(heard, known, _vectors(heard, people))
    _, off = reconstructed(bare, known, _vectors(bare, people))
    return Figure(name, "telecom's columns from vectors of all rounds", "bank", guess, on, off, QUIET)


def _vectors(heard: Heard, groups: Groups) -> Floats:
    """Every round's vectors of every shared person: their mean, and the rounds side by side."""
    rounds: dict[int, Floats] = {}
    for kind, people in (("vectors", groups.batches), ("validation", (groups.validation,))):
        for topic, content in heard.said("telecom", kind):
            number, batch = int(topic.split("/")[1]), int(topic.split("/")[-1]) if kind == "vectors" else 0
            values = rounds.setdefault(number, np.zeros((SHARED, content["values"].shape[1])))
            values[people[batch]] = content["values"]
    stack = list(rounds.values())
    return np.column_stack([np.mean(stack, axis=0), *stack])


def _model(name: str, heard: Heard, bare: Heard) -> list[Figure]:
    """The attacks on the model, with the run without noise as *off*."""
    pairs = zip(on_the_model(heard, name), on_the_model(bare, name), strict=True)
    return [Figure(name, on.attack, on.attacker, on.guess, on.on, off.on, QUIET) for on, off in pairs]


def _one_hot(buckets: Buckets, people: NDArray[np.int64]) -> Floats:
    members = np.zeros((len(people), buckets.total))
    for column in buckets.codes[people].T:
        members[np.arange(len(people)), column] = 1
    return members
