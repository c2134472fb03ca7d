"""One iteration of `neural_transfer`: seconds, bytes and messages of both variants, parties in threads of one process.

``python -m benchmarks.protocols.neural_transfer --json``. An iteration is both networks' forward passes, the exchange
of gradients and both steps of Adam. What secret shares use up is made ahead by the parties themselves and depends on no
data; its seconds and bytes stand beside the iteration's, never in them. SEAL holds the interpreter's lock, so that the
encrypted variant and the preparation use one core.
"""

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ftl.channel import MemoryChannel, Recording, connect
from ftl.features import Frame
from ftl.protocols import Task
from ftl.protocols.neural_transfer.exchange import active_exchange, generate, join, passive_exchange
from ftl.protocols.neural_transfer.gradients import ActiveTerms, PassiveTerms
from ftl.protocols.neural_transfer.inputs import with_constant
from ftl.protocols.neural_transfer.network import Network, slope
from ftl.protocols.neural_transfer.settings import Plan

Figures = dict[str, Any]
Protection = Literal["shared", "encrypted"]

ACTIVE_COLUMNS, PASSIVE_COLUMNS = 10, 23
"""As in the authors' credit experiment."""
TASK_WEIGHT = 100.0
TIMEOUT = 600.0


def headline(rows: int = 500, hidden: int = 32, iterations: int = 5) -> Figures:
    """Both variants with `rows` shared people."""
    shared = iteration("shared", rows, hidden, iterations)
    encrypted = iteration("encrypted", rows, hidden, iterations)
    name = f"neural_transfer_{rows}_rows"
    return {
        f"{name}_seconds_per_iteration": shared["seconds"],
        f"{name}_preparation_seconds_per_iteration": shared["preparation_seconds"],
        f"{name}_encrypted_seconds_per_iteration": encrypted["seconds"],
        name: {"shared": shared, "encrypted": encrypted},
    }


def growth(rows: int = 500, hidden: int = 32, iterations: int = 3) -> Figures:
    """How it grows with shared people and width; 200 is the width of the authors' experiment."""
    sizes = [(rows // 2, hidden), (2 * rows, hidden), (4 * rows, hidden), (rows, 2 * hidden), (rows, 200)]
    return {
        "neural_transfer_growth": {
            f"{people} rows, hidden {width}": {
                kind: iteration(kind, people, width, iterations) for kind in ("shared", "encrypted")
            }
            for people, width in sizes
        }
    }


@dataclass
class _Party:
    """One party's network and exchange.

    Attributes:
        prepare: makes the masks of an epoch; None under encryption.
        step: one iteration.
    """

    prepare: Callable[[int], None] | None
    step: Callable[[int], None]


def iteration(protection: Protection, rows: int, hidden: int, iterations: int) -> Figures:
    """Median over `iterations`, after one that is not counted: it opens the inputs and fills caches."""
    recording = Recording()
    parties = _parties(protection, rows, hidden, iterations + 1, recording)
    seconds, preparation, sent = [], [], {}
    for epoch in range(iterations + 1):
        before = sum(recording.bytes_sent.values()), sum(recording.sent.values())
        if parties[0].prepare is not None:
            preparation.append(_both([lambda p=p, e=epoch: p.prepare(e) for p in parties]))
        between = sum(recording.bytes_sent.values()), sum(recording.sent.values())
        seconds.append(_both([lambda p=p, e=epoch: p.step(e) for p in parties]))
        after = sum(recording.bytes_sent.values()), sum(recording.sent.values())
        sent = {
            "bytes": after[0] - between[0],
            "messages": after[1] - between[1],
            "preparation_bytes": between[0] - before[0],
            "preparation_messages": between[1] - before[1],
        }
    return {
        "seconds": statistics.median(seconds[1:]),
        "preparation_seconds": statistics.median(preparation[1:]) if preparation else 0.0,
        "rows": rows,
        "hidden": hidden,
        "columns": [ACTIVE_COLUMNS, PASSIVE_COLUMNS],
        **sent,
    }


def _both(programs: list[Callable[[], None]]) -> float:
    """Seconds until both have ended; raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(program: Callable[[], None]) -> None:
        try:
            program()
        except BaseException as exc:  # noqa: BLE001  (raised again below)
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(program,)) for program in programs]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.perf_counter() - start


def _parties(protection: Protection, rows: int, hidden: int, epochs: int, recording: Recording) -> list[_Party]:
    random = np.random.default_rng(0)
    channels = connect(["bank", "partner"], recording)
    x = [with_constant(random.normal(size=(rows, columns))) for columns in (ACTIVE_COLUMNS, PASSIVE_COLUMNS)]
    sign = np.where(random.random(rows) < 0.5, 1.0, -1.0)
    plan = Plan(rows, 0, 0, hidden, epochs, protection, x[0].shape[1])
    keys = [generate(protection) for _ in x]
    publics = [[key.public() for key in own] for own in keys]
    bank, partner = (_task(channels[name]) for name in ("bank", "partner"))
    networks = [Network(one.shape[1], hidden, 0.01, 1.0, 0, str(number)) for number, one in enumerate(x)]
    active = active_exchange(bank, "partner", plan, x[1].shape[1], join(keys[0], publics[1], "partner"), 0.0)
    passive = passive_exchange(partner, plan, x[1].shape[1], join(keys[1], publics[0], "bank"), 0.0)

    def step_active(epoch: int) -> None:
        vectors = networks[0].hidden(x[0])
        steep = slope(vectors)
        centre, spread = sign @ vectors / rows, x[0].T @ (sign[:, None] * steep) / rows
        terms = ActiveTerms(x[0], vectors, steep, sign, centre, spread, 1.0 / (TASK_WEIGHT * hidden))
        networks[0].step(TASK_WEIGHT * active.gradient(epoch, terms))

    def step_passive(epoch: int) -> None:
        vectors = networks[1].hidden(x[1])
        networks[1].step(TASK_WEIGHT * passive.gradient(epoch, PassiveTerms(x[1], vectors, slope(vectors))))

    makers = [getattr(side, "prepare", None) for side in (active, passive)]
    return [_Party(makers[0], step_active), _Party(makers[1], step_passive)]


def _task(channel: MemoryChannel) -> Task:
    nothing = np.empty(0, dtype=np.int64)
    frame = Frame(channel.me, (), np.empty((0, 0)), {}, ())
    return Task(frame, nothing, nothing, "bank", channel, 0, TIMEOUT, lambda _step: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500, help="shared people")
    parser.add_argument("--hidden", type=int, default=32, help="width of the representations")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="other sizes as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    given = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    figures = headline(given.rows, given.hidden, given.iterations)
    if given.growth:
        figures |= growth(given.rows, given.hidden)
    figures |= {"neural_transfer_load_before": load, "neural_transfer_threads": 2}
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
