"""Accuracy of `transfer_boost` on the scenario `taiwan`: `python -m benchmarks.accuracy --shared 1000 250 --seeds 0 1`.

For every number of shared customers and every seed it writes the scenario, collects and checks both parties' tables,
and runs the whole federated job over the in-memory channel: private alignment, encrypted training, evaluation on the
6,000 people of the holdout. Nothing is shortened; the figures are those that `ftl run --in-process` reports, with 95 %
bootstrap intervals over those people. Beside them stand the bank alone, the same learner on both parties' columns
pooled in the clear, and the partner's columns alone for people whom the bank does not know.

`--published` adds the credit experiment published with FATE 1.0 (see :mod:`benchmarks.neural_credit`): the partner's
columns alone on the same 837 people.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.neural_credit import experiment
from ftl.channel import connect
from ftl.collect import collect
from ftl.consortium import Folder, load, new
from ftl.features import Frame
from ftl.federation import MemoryEngine, Request, Result
from ftl.federation.evaluation import evaluate
from ftl.pipeline.reference import pooled_reference
from ftl.protocols import Outcome, Task
from ftl.protocols.combine import Combination
from ftl.protocols.transfer_boost import RECIPE
from ftl.protocols.trees import probability
from ftl.quality import check

ALONE = "alone:partner"
MODELS = {"active_only": "bank only", "federated": "transfer_boost", ALONE: "partner_only", "pooled": "pooled"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=int, nargs="+", default=[1000, 250, 100, 40, 0], help="training customers of both"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="draws of them")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the recipe, as JSON values"
    )
    parser.add_argument(
        "--no-pooled", action="store_true", help="leave the pooled reference out; it takes a minute each"
    )
    parser.add_argument("--published", action="store_true", help="add the credit experiment published with FATE 1.0")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args()


def now() -> datetime:
    return datetime.now(UTC)


def prepare(root: Path, shared: int, seed: int) -> Folder:
    """Write the scenario and bring its tables into the parties' lakes."""
    new(root, "taiwan", {"shared": str(shared)}, seed)
    folder = load(root)
    for name, party in folder.consortium.parties.items():
        for table in party.tables:
            collect(folder.node(name), table, "full", now)
            check(folder.node(name), table, now)
    return folder


def train(folder: Folder, seed: int, settings: dict[str, Any]) -> Result:
    """Run the federated job; not registered anywhere."""
    engine = MemoryEngine(folder)
    request = Request("accuracy", "transfer_boost", seed, settings)
    engine.submit(request)
    for _ in engine.watch(request.run_id):
        pass
    return engine.result(request.run_id)


def measure(shared: int, seed: int, settings: dict[str, Any], *, pooled: bool) -> dict[str, Any]:
    """One run's figures; of each model its AUC and the interval of it."""
    with tempfile.TemporaryDirectory() as directory:
        folder = prepare(Path(directory) / "taiwan", shared, seed)
        start = time.perf_counter()
        result = train(folder, seed, settings)
        seconds = time.perf_counter() - start
        models = dict(result.metrics)
        if pooled and (reference := pooled_reference(folder, seed, ("partner",))):
            models["pooled"] = reference
    return {
        "shared": shared,
        "seed": seed,
        "aligned": result.aligned,
        "auc": {name: models[name].figures["auc"] for name in MODELS if name in models},
        "interval": {name: models[name].intervals.get("auc") for name in MODELS if name in models},
        "settings": {name: value for name, value in result.settings.items() if name.endswith(("_weight", "_kept"))},
        "trees": len(result.combiner.trees) if result.combiner else 0,
        "fell_back": result.combiner.fell_back if result.combiner else None,
        "seconds": {**result.seconds, "total": seconds},
        "load": os.getloadavg()[0],
        "bytes_sent": result.bytes_sent,
        "messages": result.messages,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations over seeds, mean intervals, and the least gain over the bank alone."""
    figures: dict[str, Any] = {}
    for name in MODELS:
        values = [run["auc"][name] for run in runs if name in run["auc"]]
        if values:
            interval = np.mean([run["interval"][name] for run in runs if name in run["auc"]], axis=0)
            figures[name] = {
                "mean": statistics.fmean(values),
                "sd": statistics.pstdev(values),
                "interval": interval.tolist(),
            }
    gains = [run["auc"]["federated"] - run["auc"]["active_only"] for run in runs]
    seconds = statistics.fmean(run["seconds"]["train"] for run in runs)
    return {
        **figures,
        "gain_least": min(gains),
        "fell_back": sum(r["fell_back"] is not None for r in runs),
        "train_seconds": seconds,
    }


def published(seeds: list[int], settings: dict[str, Any]) -> dict[str, Any]:
    """The partner alone on the 837 people of the published experiment; AUC by seed."""
    given = experiment()
    runs = []
    for seed in seeds:
        outcomes = federate(given, seed, settings)
        part, combiner = RECIPE.load(outcomes["partner"].part, {}), outcomes["bank"].combiner
        if combiner is None or "partner" not in combiner.alone:
            raise SystemExit("The partner's columns alone were found to tell nothing.")
        margin = Combination(combiner, "bank").own_margin("partner", part.sub_scores(given.test))
        runs.append(evaluate(given.test_label, probability(margin), seed))
    return {
        "people": len(given.test_label),
        "shared": given.shared,
        "mean": statistics.fmean(run.auc for run in runs),
        "sd": statistics.pstdev(run.auc for run in runs),
        "auc": [run.auc for run in runs],
        "interval": np.mean([run.intervals["auc"] for run in runs], axis=0).tolist(),
    }


def federate(given: Any, seed: int, settings: dict[str, Any]) -> dict[str, Outcome]:
    """Both parties' programs on the published experiment, in threads of this process."""
    people = len(given.label)
    frames = [
        Frame("bank", _names(given.bank), given.bank, {}, _ids("a", people), given.label, np.zeros(people, dtype=bool)),
        Frame("partner", _names(given.partner), given.partner, {}, _ids("b", len(given.partner))),
    ]
    channels, outcomes = connect(["bank", "partner"]), dict[str, Outcome]()

    def program(frame: Frame) -> None:
        train, nobody = np.arange(given.shared), np.empty(0, dtype=np.int64)
        task = Task(frame, train, nobody, "bank", channels[frame.party], seed, 3600.0, lambda _step: None)
        outcomes[frame.party] = RECIPE.run(task, RECIPE.settings(settings))

    threads = [threading.Thread(target=program, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _names(values: Any) -> tuple[str, ...]:
    return tuple(f"x{number}" for number in range(values.shape[1]))


def _ids(prefix: str, people: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(people))


def main() -> None:
    given = arguments()
    settings = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in given.set)}
    runs, means = [], {}
    for shared in given.shared:
        mine = []
        for seed in given.seeds:
            mine.append(measure(shared, seed, settings, pooled=not given.no_pooled))
            if not given.json:
                figures = ", ".join(f"{MODELS[name]} {value:.4f}" for name, value in mine[-1]["auc"].items())
                print(f"{shared:>6} shared, seed {seed}: {figures}", flush=True)
        runs += mine
        means[shared] = summary(mine)
    paper = published(given.seeds, settings) if given.published else None
    if given.json:
        print(json.dumps({"runs": runs, "means": means, "published": paper}, indent=1))
        return
    table(means)
    if paper:
        low, high = paper["interval"]
        print(
            f"\npublished experiment, partner_only on {paper['people']} people, {paper['shared']} shared: "
            f"{paper['mean']:.4f} ± {paper['sd']:.4f} [{low:.3f}, {high:.3f}]"
        )


def table(means: dict[int, dict[str, Any]]) -> None:
    """AUC: mean ± standard deviation over seeds [95 % bootstrap interval over people]."""
    print(f"\n{'shared':>6}" + "".join(f"  {name:>32}" for name in MODELS.values()) + "  least gain  train s")
    for shared, row in means.items():
        cells = [f"  {_cell(row.get(name)):>32}" for name in MODELS]
        print(f"{shared:>6}{''.join(cells)}  {row['gain_least']:>+10.4f}  {row['train_seconds']:>7.1f}")


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    low, high = figure["interval"]
    return f"{figure['mean']:.4f} ± {figure['sd']:.4f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
