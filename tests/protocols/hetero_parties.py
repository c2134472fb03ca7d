"""Simulated parties for a regression, and a run of all their programs in the threads of this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from ftl.channel import Channel, Recording, connect
from ftl.features import Frame, Kind
from ftl.protocols import Checkpoints, NoCheckpoints, Outcome, Recipe, Step, Task
from ftl.protocols.combine import answer
from ftl.protocols.hetero_linear import FILE, Table

SMALL = {"own_model": "linear"}
PEOPLE, SHARED = 900, 700


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def active(self) -> Outcome:
        return self.outcomes["bank"]

    def table(self, party: str) -> Table:
        return msgspec.json.decode(self.outcomes[party].private[FILE], type=Table)

    def column_of(self, party: str) -> np.ndarray:
        """A party's coefficients."""
        return np.array([row.coefficient for row in self.table(party).rows])

    def column(self, name: str) -> np.ndarray:
        """A column of all parties' tables, one after the other."""
        rows = [row for party in self.outcomes for row in self.table(party).rows]
        return np.array([np.nan if getattr(row, name) is None else getattr(row, name) for row in rows])


class Kept:
    """Checkpoints of one party in memory."""

    def __init__(self) -> None:
        self.states: dict[int, bytes] = {}

    def latest(self) -> tuple[int, bytes] | None:
        return max(self.states.items(), default=None)

    def save(self, number: int, state: bytes) -> None:
        self.states[number] = state


def parties(
    kind: Kind = "binary", partners: Sequence[str] = ("partner",), *, gaps: bool = False, people: int = PEOPLE
) -> list[Frame]:
    """A bank with labels; partners whose columns are correlated with the bank's, and with gaps and a category."""
    random = np.random.default_rng(3)
    own = random.normal(size=(people, 3))
    signal = 0.8 * own[:, 0] - 0.5 * own[:, 1] - 0.7
    frames = []
    for name in partners:
        hidden = 0.5 * own[:, 0] + random.normal(size=people)
        other = random.gamma(2.0, size=people)
        signal = signal + 0.9 * hidden - 0.3 * other
        values, categories, columns = np.column_stack([hidden, other]), {}, ("hidden", "other")
        if gaps:
            region = random.integers(0, 4, people)
            signal = signal + 0.8 * (region == 1)
            lacking = np.where(random.random(people) < 0.15, np.nan, other)
            values, columns = np.column_stack([hidden, lacking, region]), ("hidden", "other", "region")
            categories = {"region": ("east", "north", "south", "west")}
        frames.append(Frame(name, columns, values, categories, _ids(name, people)))
    noisy = signal + random.logistic(size=people)
    label = (noisy > 0).astype(float) if kind == "binary" else 1000 + 300 * noisy
    holdout = np.arange(people) >= people * SHARED // PEOPLE
    return [Frame("bank", ("income", "debt", "luck"), own, {}, _ids("bank", people), label, holdout, kind), *frames]


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


def run(
    frames: list[Frame],
    recipe: Recipe,
    given: Mapping[str, Any] | None = None,
    *,
    shared: int | None = None,
    payloads: bool = False,
    timeout: float = 30.0,
    checkpoints: Mapping[str, Checkpoints] | None = None,
    through: Callable[[Channel], Channel] = lambda channel: channel,
) -> Run:
    """Run every party's program; raises what the first party to fail raised."""
    test = np.flatnonzero(frames[0].holdout)
    train = np.flatnonzero(~frames[0].holdout)[:shared]
    recording, steps = Recording(payloads=payloads), []
    channels = connect([frame.party for frame in frames], recording)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []
    kept = checkpoints or {}

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        places = kept.get(frame.party, NoCheckpoints())
        task = Task(frame, train, test, "bank", through(channels[frame.party]), 11, timeout, report, places)
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings({**SMALL, **(given or {})}))
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
    return Run({frame.party: outcomes[frame.party] for frame in frames}, recording, steps)


def answered(result: Run, frames: list[Frame], recipe: Recipe, rows: np.ndarray) -> np.ndarray:
    """What the loaded parts combine to for these rows of the frames."""
    scores = {
        frame.party: recipe.load(result.outcomes[frame.party].part, {}).sub_scores(frame.values[rows])
        for frame in frames
    }
    assert result.active.combiner is not None
    return answer(result.active.combiner, "bank", scores)


def standardised(frames: list[Frame], rows: int) -> np.ndarray:
    """Constant and all parties' columns of the first `rows` people, of mean 0 and deviation 1."""
    values = np.hstack([frame.values for frame in frames])[:rows]
    return np.column_stack([np.ones(rows), (values - values.mean(axis=0)) / values.std(axis=0)])
