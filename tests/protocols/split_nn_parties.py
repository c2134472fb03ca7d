"""Simulated parties with a label of any kind, and a run of all their programs in the threads of this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ftl.channel import Channel, Recording, connect
from ftl.features import Frame
from ftl.protocols import Checkpoints, NoCheckpoints, Outcome, Recipe, Step, Task
from ftl.protocols.combine import answer
from ftl.protocols.split_nn import active
from ftl.protocols.split_nn.start import Progress, Start, fit_start

SMALL = {"rounds": 6, "patience": 6, "noise": 0.2, "gradient_noise": 0.5, "max_bins": 6, "embedding_rate": 0.1}
SHARED = 400


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def active(self) -> Outcome:
        return self.outcomes["bank"]


class Kept:
    """Checkpoints in memory; several parties' are cut to the last round that all have."""

    def __init__(self) -> None:
        self.states: dict[int, bytes] = {}

    def latest(self) -> tuple[int, bytes] | None:
        return max(self.states.items(), default=None)

    def save(self, number: int, state: bytes) -> None:
        self.states[number] = state


def parties(
    kind: str = "binary", people: int = 600, seed: int = 3, partners: Sequence[str] = ("partner",)
) -> list[Frame]:
    """A bank with labels and partners with a numeric column with gaps, a coarse one, a category and one of noise."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(people, 3))
    margin = own[:, 0] - 0.5
    frames = []
    for name in partners:
        hidden, coarse = random.normal(size=people), np.round(random.normal(size=people) * 2)
        region = random.integers(0, 4, people)
        margin = margin + 1.6 * hidden + 0.4 * coarse + 1.5 * (region == 1)
        gaps = np.where(random.random(people) < 0.1, np.nan, hidden)
        values = np.column_stack([gaps, coarse, region, random.normal(size=people)])
        columns = ("hidden", "coarse", "region", "chance")
        frames.append(Frame(name, columns, values, {"region": ("e", "n", "s", "w")}, _ids(name, people)))
    holdout = np.arange(people) >= people - people // 4
    label = _label(kind, margin, random)
    classes = ("good", "late", "bad") if kind == "classes" else ()
    bank = Frame("bank", ("income", "debt", "luck"), own, {}, _ids("bank", people), label, holdout, kind, classes)
    return [bank, *frames]


def _label(kind: str, margin: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if kind == "binary":
        return (random.random(len(margin)) < 1 / (1 + np.exp(-margin))).astype(float)
    noisy = margin + random.normal(size=len(margin))
    return 1000.0 + 300 * noisy if kind == "number" else np.digitize(noisy, [-1.0, 1.5]).astype(float)


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


def run(
    frames: list[Frame],
    recipe: Recipe,
    given: Mapping[str, Any] | None = None,
    *,
    shared: int = SHARED,
    payloads: bool = False,
    timeout: float = 120.0,
    seed: int = 11,
    checkpoints: Mapping[str, Checkpoints] | None = None,
    through: Callable[[Channel], Channel] = lambda channel: channel,
) -> Run:
    """Run every party's program; raises what the first party to fail raised."""
    train, test = np.arange(shared), np.flatnonzero(frames[0].holdout)
    recording, steps = Recording(payloads=payloads), []
    channels = connect([frame.party for frame in frames], recording)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []
    kept = checkpoints or {}

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        places = kept.get(frame.party, NoCheckpoints())
        channel = through(channels[frame.party])
        task = Task(frame, train, test, "bank", channel, seed, timeout, report, places)
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings(SMALL if given is None else given))
        except BaseException as exc:  # noqa: BLE001  (raised again where the test can see it)
            errors.append(exc)
            channels[frame.party].close(str(exc))

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "fit_start", _fitted_once)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return Run(outcomes, recording, steps)


_STARTS: dict[tuple[bytes, int], Start] = {}


def _fitted_once(task: Task, progress: Progress) -> Start:
    """The bank's own model is the same in many tests; it is fitted in the first."""
    frame = task.frame
    assert frame.label is not None
    known = (frame.values.tobytes() + frame.label.tobytes(), task.seed)
    if known not in _STARTS:
        _STARTS[known] = fit_start(task, progress)
    return _STARTS[known]


def answered(result: Run, frames: list[Frame], recipe: Recipe, rows: np.ndarray) -> np.ndarray:
    """What the loaded parts combine to for these rows of the frames."""
    scores = {
        frame.party: recipe.load(result.outcomes[frame.party].part, {}).sub_scores(frame.values[rows])
        for frame in frames
    }
    assert result.active.combiner is not None
    return answer(result.active.combiner, "bank", scores)
