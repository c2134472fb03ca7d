"""Small simulated parties with any kind of label, and a run of `secure_boost` in the threads of this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ftl.channel import Channel, Recording, connect
from ftl.crypto import AdditiveScheme
from ftl.features import Frame, Kind
from ftl.protocols import Checkpoints, NoCheckpoints, Outcome, Step, Task
from ftl.protocols.secure_boost import SecureBoost

SMALL = {"rounds": 3, "depth": 2, "min_bucket": 5, "max_bins": 8, "own_model": False}
PEOPLE, SHARED = 300, 200


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def active(self) -> Outcome:
        return self.outcomes["bank"]


class Kept:
    """Checkpoints of one party in memory."""

    def __init__(self) -> None:
        self.states: dict[int, bytes] = {}
        self.at: int | None = None

    def latest(self) -> tuple[int, bytes] | None:
        return None if self.at is None else (self.at, self.states[self.at])

    def save(self, number: int, state: bytes) -> None:
        self.states[number] = state


def parties(kind: Kind = "binary", people: int = PEOPLE, partners: Sequence[str] = ("partner",)) -> list[Frame]:
    """A bank with labels and weights; partners with a numeric column with gaps, a coarse one and a category."""
    random = np.random.default_rng(5)
    own = random.normal(size=(people, 2))
    own[random.random(people) < 0.1, 1] = np.nan
    signal = own[:, 0].copy()
    frames = []
    for name in partners:
        hidden, coarse = random.normal(size=people), np.round(random.normal(size=people) * 2)
        region = random.integers(0, 4, people)
        signal += 1.3 * hidden + 0.4 * coarse * (region == 1) + (region == 2)
        values = np.column_stack([np.where(random.random(people) < 0.15, np.nan, hidden), coarse, region])
        ids = _ids(name, people)
        frames.append(Frame(name, ("hidden", "coarse", "region"), values, {"region": ("e", "n", "s", "w")}, ids))
    label, classes = _label(kind, signal, random)
    holdout = np.arange(people) >= SHARED
    bank = Frame("bank", ("income", "debt"), own, {}, _ids("bank", people), label, holdout, kind, classes)
    return [bank, *frames]


def _label(kind: Kind, signal: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    noisy = signal + random.logistic(size=len(signal))
    if kind == "number":
        return 1000 + 250 * noisy, ()
    if kind == "binary":
        return (noisy > 0.5).astype(float), ()
    return np.digitize(noisy, [-0.5, 1.0]).astype(float), ("low", "mid", "high")


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


def run(
    frames: list[Frame],
    scheme: AdditiveScheme | None,
    given: Mapping[str, Any] = SMALL,
    shared: int = SHARED,
    kept: Mapping[str, Checkpoints] | None = None,
    wrap: Callable[[str, Channel], Channel] = lambda _party, channel: channel,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> Run:
    """Run every party's program; raises what the first party to fail raised.

    Args:
        kept: party to where it keeps its rounds.
        wrap: may change what a party sends or receives.
        others: party to settings that differ from `given`.
    """
    recording, steps = Recording(payloads=True), []
    channels = connect([frame.party for frame in frames], recording)
    recipe, outcomes, errors = SecureBoost(scheme), {}, []

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        task = Task(
            frame, np.arange(shared), np.flatnonzero(frames[0].holdout), "bank",
            wrap(frame.party, channels[frame.party]), 11, 300.0, report, (kept or {}).get(frame.party, NoCheckpoints()),
        )  # fmt: skip
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings((others or {}).get(frame.party, given)))
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


def with_columns(frame: Frame, **changes: Any) -> Frame:
    return replace(frame, **changes)
