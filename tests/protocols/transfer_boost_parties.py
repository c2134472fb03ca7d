"""Small simulated parties, and a run of all their programs in the threads of this process."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ftl.channel import Recording, connect
from ftl.crypto import AdditiveScheme
from ftl.features import Frame
from ftl.protocols import Outcome, Step, Task
from ftl.protocols.transfer_boost import TransferBoost

SMALL = {
    "opinion_rounds": 2,
    "rounds": 3,
    "depth": 1,
    "alone_rounds": 2,
    "min_bucket": 5,
    "folds": 3,
    "max_bins": 8,
    "l2": 2.0,
}


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def active(self) -> Outcome:
        return self.outcomes["bank"]


def parties(
    people: int = 400, seed: int = 3, partners: Sequence[str] = ("partner",), common: float = 0.0
) -> list[Frame]:
    """A bank with labels and partners with a numeric column with gaps, a coarse one, a category and a copy.

    `common` is how much the partners' numeric column has of the bank's first.
    """
    random = np.random.default_rng(seed)
    own = random.normal(size=(people, 3))
    logit = own[:, 0] - 0.7
    frames = []
    for name in partners:
        hidden = random.normal(size=people) + common * own[:, 0]
        coarse = np.round(random.normal(size=people) * 2)
        region = random.integers(0, 4, people)
        logit = logit + 1.3 * hidden + 0.4 * coarse * (region == 1) + (region == 2)
        gaps = np.where(random.random(people) < 0.15, np.nan, hidden)
        values = np.column_stack([gaps, coarse, region, coarse * 3])
        columns = ("hidden", "coarse", "region", "again")
        frames.append(Frame(name, columns, values, {"region": ("e", "n", "s", "w")}, _ids(name, people)))
    label = (random.random(people) < 1 / (1 + np.exp(-logit))).astype(float)
    holdout = np.arange(people) >= people - people // 4
    bank = Frame("bank", ("income", "debt", "noise"), own, {}, _ids("bank", people), label, holdout)
    return [bank, *frames]


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


class Memory:
    """Checkpoints of all parties of a run that may be broken off."""

    def __init__(self, parties: Sequence[str]) -> None:
        self.kept: dict[str, dict[int, bytes]] = {party: {} for party in parties}

    def of(self, party: str) -> "OneMemory":
        """The party's side of a run that begins now: it goes on from the last number that all parties have."""
        number = min(max(kept, default=0) for kept in self.kept.values())
        return OneMemory(self, party, number)


@dataclass
class OneMemory:
    memory: Memory
    party: str
    number: int

    def latest(self) -> tuple[int, bytes] | None:
        return (self.number, self.memory.kept[self.party][self.number]) if self.number else None

    def save(self, number: int, state: bytes) -> None:
        self.memory.kept[self.party][number] = state


def run(
    frames: list[Frame],
    shared: int,
    scheme: AdditiveScheme | None,
    given: Mapping[str, Any] = SMALL,
    payloads: bool = False,
    timeout: float = 60.0,
    memory: Memory | None = None,
) -> Run:
    """Run every party's program; raises what the first party to fail raised."""
    train = np.arange(shared)
    test = np.flatnonzero(frames[0].holdout)
    recording, steps = Recording(payloads=payloads), []
    channels = connect([frame.party for frame in frames], recording)
    recipe = TransferBoost(scheme)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []

    memory = memory or Memory([frame.party for frame in frames])
    begun = {frame.party: memory.of(frame.party) for frame in frames}

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        channel = channels[frame.party]
        task = Task(frame, train, test, "bank", channel, 11, timeout, report, begun[frame.party])
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings(given))
        except BaseException as exc:  # noqa: BLE001  (raised again where the test can see it)
            errors.append(exc)
            channels[frame.party].close(str(exc))

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Run(outcomes, recording, steps)


def relabel(frame: Frame, label: Any) -> Frame:
    return replace(frame, label=np.asarray(label, dtype=float))
