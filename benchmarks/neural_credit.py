"""The credit experiment of the authors of `neural_transfer`: `python -m benchmarks.neural_credit --variant shares`.

Liu et al. 2018 (arXiv 1812.03337), as released with FATE 1.0: the Taiwan table balanced to 13,272 rows, 33 standardised
columns; A knows labels and the last 10 columns of 12,077 people, B the first 23 of 2,522, 1,327 of them shared. Those
scored are 837 people whom only B knows. Hidden width 200, Adam with rate 0.01, weight 100 on the task loss, 100 full
batches. The variants `shares` and `encrypted` run the real recipe over the in-memory channel; `clear` differentiates
the published loss by torch, from the same starting weights. Beside it stands what the paper does not report: boosting
on B's columns, as the base model of every recipe here is fitted.
"""

import argparse
import json
import resource
import statistics
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from ftl.channel import Recording, connect
from ftl.consortium.scenarios.taiwan import raw_table
from ftl.features import Frame
from ftl.protocols import Outcome, Task
from ftl.protocols.base import fit_base
from ftl.protocols.combine import answer
from ftl.protocols.neural_transfer import RECIPE
from ftl.protocols.trees import probability

Floats = NDArray[np.float64]

HIDDEN, EPOCHS, RATE, WEIGHT = 200, 100, 0.01, 100.0
PROTECTION = {"shares": "shared", "encrypted": "encrypted"}
NAMES = ("bank", "partner")
CACHE = Path.home() / ".cache" / "ftl"
TIMEOUT = 3600.0


@dataclass(frozen=True)
class Experiment:
    """Who knows what. The first `shared` rows of both parties are the same people.

    Attributes:
        bank: A's columns, shape (12077, 10).
        partner: B's, shape (2522, 23).
        label: 1 is bad, of A's people.
        shared: people of both.
        test: the 837 people, B's columns.
        test_label: theirs.
        all_partner: B's columns of all of A's people, which B does not know; for the reference only.
    """

    bank: Floats
    partner: Floats
    label: Floats
    shared: int
    test: Floats
    test_label: Floats
    all_partner: Floats


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="starting weights 0 to N - 1")
    parser.add_argument("--variant", choices=["clear", "shares", "encrypted"], default="clear")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer for a quick look; the paper's are 100")
    parser.add_argument("--attack", action="store_true", help="what the partner can tell of labels; nothing is trained")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser.parse_args()


def experiment() -> Experiment:
    """The authors' preparation of the table: draws by numpy's legacy generator with seed 5, as they released it."""
    table = raw_table(CACHE)
    label = table["default.payment.next.month"].to_numpy(dtype=float)
    columns = table.drop(columns=["ID", "default.payment.next.month"])
    good = np.flatnonzero(label == 0).tolist()
    np.random.RandomState(5).shuffle(good)
    bad = np.flatnonzero(label == 1).tolist()
    rows = np.array(bad + good[: len(bad)])
    columns, label = columns.iloc[rows], label[rows]
    categories = ("SEX", "EDUCATION", "MARRIAGE")
    hot = [(columns[[name]].to_numpy() == np.unique(columns[name])).astype(float) for name in categories]
    x = np.hstack([*hot, columns.drop(columns=list(categories)).to_numpy(dtype=np.float32).astype(float)])
    order = np.arange(len(x)).tolist()
    np.random.RandomState(5).shuffle(order)
    x, label = x[order], label[order]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    cut, shared = 23, len(x) // 10
    bank = shared + int((len(x) - shared) * 0.9)
    validation = int(0.3 * (len(x) - bank))
    test = np.arange(bank + validation, len(x))
    partner = np.vstack([x[:shared, :cut], x[bank:, :cut]])
    return Experiment(
        x[:bank, cut:], partner, label[:bank], shared, x[test, :cut], label[test], all_partner=x[:bank, :cut]
    )


def clear(data: Experiment, seed: int, epochs: int, noise: float = 0.0) -> Floats:
    """Probabilities of the 837 by the published loss, differentiated by torch; nothing is protected.

    `noise` is the recipe's setting of that name.
    """
    random = torch.Generator().manual_seed(seed)
    bank, partner = (torch.from_numpy(_with_constant(x)) for x in (data.bank, data.partner[: data.shared]))
    sign = torch.from_numpy(2 * data.label - 1)[:, None]
    own, other = (_start(x.shape[1], seed, name) for x, name in zip((bank, partner), NAMES, strict=True))
    optimiser = torch.optim.Adam([own, other], lr=RATE)
    for _ in range(epochs):
        optimiser.zero_grad()
        of_bank, of_partner = torch.sigmoid(bank @ own), torch.sigmoid(partner @ other)
        margin = of_partner @ (sign * of_bank).mean(dim=0)
        task = (np.log(2) - sign[: data.shared, 0] * margin / 2 + margin**2 / 8).sum()
        (WEIGHT * task - (of_bank[: data.shared] * of_partner).sum() / HIDDEN).backward()
        for weights in (own, other) if noise else ():
            drawn = torch.randn(weights.shape, generator=random, dtype=torch.float64)
            weights.grad += WEIGHT * noise * drawn  # type: ignore[operator]
        optimiser.step()
    with torch.no_grad():
        centre = (sign * torch.sigmoid(bank @ own)).mean(dim=0)
        margin = torch.sigmoid(torch.from_numpy(_with_constant(data.test)) @ other) @ centre
    return probability(margin.numpy())


def _with_constant(x: Floats) -> Floats:
    return np.column_stack([x, np.ones(len(x))])


def _start(inputs: int, seed: int, party: str) -> torch.nn.Parameter:
    """The recipe's starting weights."""
    start = np.random.default_rng([seed, zlib.crc32(party.encode())]).normal(0.0, 1.0, (inputs, HIDDEN))
    start[-1] = 0.0
    return torch.nn.Parameter(torch.from_numpy(start))


def protected(data: Experiment, seed: int, epochs: int, variant: str) -> tuple[Floats, dict[str, Any]]:
    """Probabilities of the 837 by the recipe, and what it cost; over the in-memory channel."""
    holdout = np.zeros(len(data.label), dtype=bool)
    frames = [
        Frame(NAMES[0], _columns("a", data.bank), data.bank, {}, _ids(data.bank), data.label, holdout),
        Frame(NAMES[1], _columns("b", data.partner), data.partner, {}, _ids(data.partner)),
    ]
    given = {
        "hidden": HIDDEN,
        "epochs": epochs,
        "learning_rate": RATE,
        "task_weight": WEIGHT,
        "protection": PROTECTION[variant],
        "calibration": 0.0,
        "standardize": False,
    }
    recording, start = Recording(), time.perf_counter()
    outcomes = run(frames, data.shared, seed, given, recording)
    seconds = time.perf_counter() - start
    part = RECIPE.load(outcomes[NAMES[1]].part, {})
    combiner = outcomes[NAMES[0]].combiner
    assert combiner is not None
    scores = {NAMES[1]: part.sub_scores(data.test)}
    own = RECIPE.load(outcomes[NAMES[0]].part, {}).sub_scores(np.zeros((len(data.test), data.bank.shape[1])))
    scores[NAMES[0]] = own  # does not count: without calibration the answer is the partner's network's
    cost = {"seconds": seconds, "bytes": sum(recording.bytes_sent.values()), "messages": sum(recording.sent.values())}
    return answer(combiner, NAMES[0], scores), cost


def run(frames: list[Frame], shared: int, seed: int, given: dict[str, Any], recording: Recording) -> dict[str, Outcome]:
    """Both parties' programs in threads."""
    channels = connect(NAMES, recording)
    outcomes: dict[str, Outcome] = {}

    def program(frame: Frame) -> None:
        people, nobody = np.arange(shared), np.empty(0, dtype=np.int64)
        channel = channels[frame.party]
        task = Task(frame, people, nobody, NAMES[0], channel, seed, TIMEOUT, lambda _step: None)
        try:
            outcomes[frame.party] = RECIPE.run(task, RECIPE.settings(given))
        finally:
            channel.close("its program has ended")

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _columns(prefix: str, x: Floats) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(x.shape[1]))


def _ids(x: Floats) -> tuple[str, ...]:
    return tuple(str(number) for number in range(len(x)))


def boosting(data: Experiment, rows: Floats, label: Floats) -> Floats:
    """What the partner could do with labels of `rows` and its own columns; settings by cross-validation on these."""
    base = fit_base(rows, label, np.zeros(rows.shape[1], dtype=bool), seed=0)
    return base.probability(data.test)


def attack(data: Experiment, people: int, hidden: int, noise: float, rounds: int = 40) -> dict[str, float]:
    """How well the partner tells the labels of `people` shared ones from its first epoch's weight gradients.

    They are linear in phi and in w = s / 4 - y / 2, one number per person, which it solves for in turns by least
    squares. Beside it the same for a partner that knows phi, as one does that colludes with whoever reads the registry.
    """
    random = np.random.default_rng(0)
    bank, partner = _with_constant(data.bank), _with_constant(data.partner[:people])
    own, other = random.normal(size=(bank.shape[1], hidden)), random.normal(size=(partner.shape[1], hidden))
    own[-1], other[-1] = 0.0, 0.0
    sign, of_bank, vectors = 2 * data.label - 1, probability(bank @ own), probability(partner @ other)
    centre, steep = sign @ of_bank / len(bank), vectors * (1 - vectors)
    weight = vectors @ centre / 4 - sign[:people] / 2
    true = partner.T @ (steep * (np.outer(weight, centre) - of_bank[:people] / (WEIGHT * hidden)))
    seen = true + noise * random.normal(size=true.shape)
    known = np.einsum("jk,jl->lkj", partner, steep)
    starts = [np.sign(seen.sum(axis=0)), *(random.normal(size=hidden) for _ in range(3))]
    tries = [_alternate(known, seen, start, rounds) for start in starts]
    guess = min(tries, key=lambda one: one[0])[1]
    informed = _weights(known, seen, centre)
    return {name: _told(data.label[:people], found) for name, found in (("auc", guess), ("auc_knowing_phi", informed))}


def _alternate(known: Floats, seen: Floats, centre: Floats, rounds: int) -> tuple[float, Floats]:
    """What is left unexplained, and w up to its scale."""
    for _ in range(rounds):
        weight = _weights(known, seen, centre)
        parts = known @ weight
        centre = (parts * seen.T).sum(axis=1) / (parts**2).sum(axis=1)
    return float(np.linalg.norm(parts * centre[:, None] - seen.T)), weight


def _weights(known: Floats, seen: Floats, centre: Floats) -> Floats:
    rows = (centre[:, None, None] * known).reshape(-1, known.shape[2])
    normal = rows.T @ rows
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.asarray(np.linalg.solve(normal, rows.T @ seen.T.ravel()))


def _told(label: Floats, found: Floats) -> float:
    auc = float(roc_auc_score(label, found))
    return max(auc, 1 - auc)


def attacks(data: Experiment, seeds: int, epochs: int) -> list[dict[str, float]]:
    """Attacks with more and fewer equations than people, and what noise does to them and to the model."""
    sizes = [(300, 8, 0.0), (300, 32, 0.0), (500, 64, 0.0), (300, 32, 0.1), (300, 32, 0.5)]
    quiet = {
        noise: [quality(data, clear(data, seed, epochs, noise))["auc"] for seed in range(seeds)]
        for noise in (0.0, 0.1, 0.5)
    }
    return [
        {
            "people": people,
            "hidden": hidden,
            "noise": noise,
            **attack(data, people, hidden, noise),
            "model_auc": statistics.fmean(quiet[noise]),
        }
        for people, hidden, noise in sizes
    ]


def quality(data: Experiment, chance: Floats) -> dict[str, float]:
    weighted = f1_score(data.test_label, chance > 0.5, average="weighted")
    return {"auc": float(roc_auc_score(data.test_label, chance)), "weighted_f1": float(weighted)}


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name in ("auc", "weighted_f1", *(["auc_minus_clear"] if "auc_minus_clear" in runs[0] else [])):
        values = [run[name] for run in runs]
        figures[name] = statistics.fmean(values)
        figures[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return figures


def measure(data: Experiment, seed: int, epochs: int, variant: str) -> dict[str, Any]:
    """One run's figures; protected runs beside the clear one from the same start."""
    start = time.perf_counter()
    in_clear = clear(data, seed, epochs)
    figures: dict[str, Any] = {"seed": seed, "seconds": time.perf_counter() - start, **quality(data, in_clear)}
    if variant == "clear":
        return figures
    chance, cost = protected(data, seed, epochs, variant)
    mine = quality(data, chance)
    largest = float(np.abs(chance - in_clear).max())
    return {"seed": seed, **cost, **mine, "auc_minus_clear": mine["auc"] - figures["auc"], "largest_gap": largest}


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    data = experiment()
    if given.attack:
        print(json.dumps({"neural_transfer_label_attack": attacks(data, given.seeds, given.epochs)}, indent=1))
        return
    runs = []
    for seed in range(given.seeds):
        runs.append(measure(data, seed, given.epochs, given.variant))
        if not given.json:
            print(", ".join(f"{name} {value:.5g}" for name, value in runs[-1].items()), flush=True)
    beside = {
        "boosting_partner_columns_shared_labels": quality(
            data, boosting(data, data.partner[: data.shared], data.label[: data.shared])
        ),
        "boosting_partner_columns_all_labels": quality(data, boosting(data, data.all_partner, data.label)),
    }
    result = {
        "variant": given.variant,
        "hidden": HIDDEN,
        "epochs": given.epochs,
        "people": {"bank": len(data.bank), "partner": len(data.partner), "shared": data.shared, "test": len(data.test)},
        "mean": summary(runs),
        "runs": runs,
        "beside": beside,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if given.json:
        print(json.dumps(result, indent=1))
        return
    print(f"\n{given.variant}: {json.dumps(result['mean'])}")
    for name, figures in beside.items():
        print(f"{name}: AUC {figures['auc']:.4f}, weighted F1 {figures['weighted_f1']:.4f}")


if __name__ == "__main__":
    main()
