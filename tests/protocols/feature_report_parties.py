"""Simulated parties whose columns hang together, and a run of all their programs in the threads of this process."""

import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ftl.channel import Recording, connect
from ftl.crypto import AdditiveScheme, OuScheme, PublicCipher, SecretCipher
from ftl.features import Frame
from ftl.protocols import Outcome, Step, Task
from ftl.protocols.feature_report import FeatureReport

REGIONS = ("eastern", "northern", "o'xford", "southern", "western")


@functools.cache
def key(number: int) -> SecretCipher:
    """A key pair; drawing one takes seconds, so that runs of these tests share two."""
    return OuScheme().generate()


class Encrypted:
    """Okamoto–Uchiyama as in earnest, but for keys that were drawn before."""

    def __init__(self) -> None:
        self._numbers = itertools.cycle(range(2))

    def generate(self) -> SecretCipher:
        return key(next(self._numbers))

    def load_public(self, public: bytes) -> PublicCipher:
        return OuScheme().load_public(public)


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def report(self) -> Mapping[str, Any]:
        report = self.outcomes["bank"].report
        assert report is not None
        return report

    def line(self, party: str, column: str) -> Mapping[str, Any]:
        """A column's line; needs `name_columns`."""
        return next(each for each in self.report["columns"] if (each["party"], each["column"]) == (party, column))


def parties(people: int = 700, seed: int = 3, partners: Sequence[str] = ("shop",)) -> list[Frame]:
    """A bank with labels, and partners with telling, useless, heavy-tailed, gappy, categorical and copied columns."""
    random = np.random.default_rng(seed)
    wealth, age = random.normal(size=(2, people))
    own = np.column_stack([wealth, np.round(age * 3), random.normal(size=people), random.integers(0, 3, people)])
    logit = wealth - 0.8 + 0.5 * (own[:, 3] == 1)
    frames = []
    for name in partners:
        telling = random.normal(size=people)
        region = random.integers(0, 5, people).astype(float)
        logit = logit + 1.2 * telling + 0.9 * (region == 2)
        gaps = np.where(random.random(people) < 0.15, np.nan, telling)
        values = np.column_stack(
            [
                gaps,
                random.normal(size=people),
                np.exp(2 * random.normal(size=people)),
                0.9 * wealth + 0.4 * random.normal(size=people),
                np.where(random.random(people) < 0.01, np.nan, region),
                telling * 2 + 0.1 * random.normal(size=people),
            ]
        )
        columns = ("telling", "useless", "tailed", "wealthy", "region", "again")
        frames.append(Frame(name, columns, values, {"region": REGIONS}, _ids(name, people)))
    label = (random.random(people) < 1 / (1 + np.exp(-logit))).astype(float)
    holdout = np.arange(people) >= people - people // 5
    columns = ("income", "age", "noise", "job")
    bank = Frame("bank", columns, own, {"job": ("a", "b", "c")}, _ids("bank", people), label, holdout)
    return [bank, *frames]


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


def run(
    frames: list[Frame],
    shared: int,
    scheme: AdditiveScheme | None,
    given: Mapping[str, Any] | None = None,
    payloads: bool = False,
    timeout: float = 60.0,
) -> Run:
    """Run every party's program; raises what the first party to fail raised."""
    recording, steps = Recording(payloads=payloads), list[Step]()
    channels = connect([frame.party for frame in frames], recording)
    recipe = FeatureReport(scheme)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        test = np.flatnonzero(frames[0].holdout)
        task = Task(frame, np.arange(shared), test, "bank", channels[frame.party], 11, timeout, report)
        try:
            outcomes[frame.party] = recipe.run(task, recipe.settings(given or {}))
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
