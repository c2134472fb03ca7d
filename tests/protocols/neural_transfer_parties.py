"""A bank and a shop that share customers, a run of both programs in threads, and the published method in the clear."""

import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ftl.channel import Recording, connect
from ftl.features import Frame
from ftl.protocols import Checkpoints, NoCheckpoints, Outcome, Step, Task
from ftl.protocols.neural_transfer import RECIPE
from ftl.protocols.neural_transfer.exchange import active_exchange, generate, join, passive_exchange
from ftl.protocols.neural_transfer.gradients import ActiveTerms, PassiveTerms
from ftl.protocols.neural_transfer.inputs import fit_inputs, with_constant
from ftl.protocols.neural_transfer.people import split
from ftl.protocols.neural_transfer.settings import Plan

SEED = 11
SMALL = {"hidden": 6, "epochs": 8, "learning_rate": 0.1, "calibration": 0.25, "task_weight": 10.0}


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    recording: Recording
    steps: list[Step] = field(default_factory=list)

    @property
    def active(self) -> Outcome:
        return self.outcomes["bank"]


def parties(people: int = 300, seed: int = 3) -> list[Frame]:
    """Everybody is known to both; the shop's columns say more of the label, and have gaps and categories."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(people, 3))
    bought, visits = random.normal(size=people), np.round(random.normal(size=people) * 2)
    region = random.integers(0, 3, people)
    logit = 0.8 * own[:, 0] + 1.5 * bought + 0.3 * visits + (region == 1) - 0.6
    label = (random.random(people) < 1 / (1 + np.exp(-logit))).astype(float)
    holdout = np.arange(people) >= people - people // 4
    shop = np.column_stack([np.where(random.random(people) < 0.1, np.nan, bought), visits, region])
    columns, categories = ("bought", "visits", "region"), {"region": ("e", "n", "s")}
    bank = Frame("bank", ("income", "debt", "noise"), own, {}, _ids("bank", people), label, holdout)
    return [bank, Frame("shop", columns, shop, categories, _ids("shop", people))]


def _ids(name: str, people: int) -> tuple[str, ...]:
    return tuple(f"{name}-person-{number:05d}" for number in range(people))


def run(
    frames: list[Frame],
    shared: int,
    given: Mapping[str, Any] = SMALL,
    payloads: bool = False,
    checkpoints: Callable[[str], Checkpoints] = lambda _party: NoCheckpoints(),
    timeout: float = 60.0,
) -> Run:
    """Run every party's program; raises what the first party to fail raised."""
    train, test = np.arange(shared), np.flatnonzero(frames[0].holdout)
    recording, steps = Recording(payloads=payloads), []
    channels = connect([frame.party for frame in frames], recording)
    outcomes: dict[str, Outcome] = {}
    errors: list[BaseException] = []

    def program(frame: Frame) -> None:
        report = steps.append if frame.party == "bank" else lambda _step: None
        channel, kept = channels[frame.party], checkpoints(frame.party)
        task = Task(frame, train, test, "bank", channel, SEED, timeout, report, kept)
        try:
            outcomes[frame.party] = RECIPE.run(task, RECIPE.settings(given))
        except BaseException as exc:  # noqa: BLE001  (raised again where the test can see it)
            errors.append(exc)
            channel.close(str(exc))

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Run(outcomes, recording, steps)


@dataclass
class Clear:
    """The published loss in the clear, differentiated by torch; W has the constant's weights last.

    Attributes:
        bank, shop: inputs with the constant, the shared people first.
        sign: label of the bank's people, -1 or 1.
        shared: how many they share.
    """

    bank: np.ndarray
    shop: np.ndarray
    sign: np.ndarray
    shared: int

    def loss(self, own: torch.Tensor, other: torch.Tensor, task_weight: float) -> torch.Tensor:
        bank = torch.sigmoid(torch.from_numpy(self.bank) @ own)
        shop = torch.sigmoid(torch.from_numpy(self.shop[: self.shared]) @ other)
        sign = torch.from_numpy(self.sign)
        centre = (sign[:, None] * bank).mean(dim=0)
        margin = shop @ centre
        taylor = np.log(2) - sign[: self.shared] * margin / 2 + margin**2 / 8
        return task_weight * taylor.sum() - (bank[: self.shared] * shop).sum() / own.shape[1]

    def train(self, hidden: int, epochs: int, task_weight: float, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
        """phi and the shop's weights after so many epochs of Adam."""
        own, other = (
            self._start(x.shape[1], hidden, seed, name) for x, name in ((self.bank, "bank"), (self.shop, "shop"))
        )
        optimiser = torch.optim.Adam([own, other], lr=SMALL["learning_rate"])
        for _ in range(epochs):
            optimiser.zero_grad()
            self.loss(own, other, task_weight).backward()
            optimiser.step()
        with torch.no_grad():
            vectors = torch.sigmoid(torch.from_numpy(self.bank) @ own).numpy()
        return (self.sign[:, None] * vectors).mean(axis=0), other.detach().numpy()

    def _start(self, inputs: int, hidden: int, seed: int, party: str) -> torch.nn.Parameter:
        start = np.random.default_rng([seed, zlib.crc32(party.encode())]).normal(0.0, 1.0, (inputs, hidden))
        start[-1] = 0.0
        return torch.nn.Parameter(torch.from_numpy(start))


def clear_of(frames: list[Frame], shared: int, calibration: int = 0) -> Clear:
    """What the published method trains on in a run with these frames."""
    bank, shop = (with_constant(fit_inputs(frame, standardize=True).matrix(frame.values)) for frame in frames)
    label, holdout = frames[0].label, frames[0].holdout
    trained, _ = split(np.arange(shared), calibration, SEED)
    rows = np.concatenate([trained, np.setdiff1d(np.flatnonzero(~holdout), np.arange(shared))])
    return Clear(bank[rows], shop[trained], 2 * label[rows] - 1, len(trained))


def exchanged(
    protection: str, clear: Clear, own: np.ndarray, other: np.ndarray, task_weight: float
) -> list[np.ndarray]:
    """The weight gradients that bank and shop learn in one exchange, at weights `own` and `other`."""
    hidden, shared = own.shape[1], clear.shared
    plan = Plan(shared, 0, 0, hidden, 1, protection, own.shape[0])
    channels = connect(["bank", "shop"])
    nothing = np.empty(0, dtype=np.int64)
    keys = {name: generate(protection) for name in channels}
    frames = {name: Frame(name, (), np.empty((0, 0)), {}, ()) for name in channels}
    tasks = {
        name: Task(frames[name], nothing, nothing, "bank", channels[name], 0, 60.0, lambda _step: None)
        for name in channels
    }
    bank, shop = (1 / (1 + np.exp(-x @ w)) for x, w in ((clear.bank, own), (clear.shop[:shared], other)))
    steep, results = bank * (1 - bank), {}

    def of_bank() -> None:
        both = join(keys["bank"], [key.public() for key in keys["shop"]], "shop")
        side = active_exchange(tasks["bank"], "shop", plan, other.shape[0], both, 0.0)
        spread = clear.bank.T @ (clear.sign[:, None] * steep) / len(bank)
        centre, part = (clear.sign[:, None] * bank).mean(axis=0), slice(shared)
        alignment = 1 / (task_weight * hidden)
        terms = ActiveTerms(clear.bank[part], bank[part], steep[part], clear.sign[part], centre, spread, alignment)
        results["bank"] = side.gradient(0, terms)

    def of_shop() -> None:
        both = join(keys["shop"], [key.public() for key in keys["bank"]], "bank")
        side = passive_exchange(tasks["shop"], plan, other.shape[0], both, 0.0)
        results["shop"] = side.gradient(0, PassiveTerms(clear.shop[:shared], shop, shop * (1 - shop)))

    threads = [threading.Thread(target=program) for program in (of_bank, of_shop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [task_weight * results[name] for name in ("bank", "shop")]
