"""Accuracy of `transfer_boost` on the scenario `taiwan`: `python -m benchmarks.accuracy --shared 1000 250 --seeds 0 1`.

For every number of shared customers and every seed it writes the scenario, collects and checks both parties' tables,
and runs the whole federated job over the in-memory channel: private alignment, encrypted training, evaluation on the
6,000 people of the holdout. Nothing is shortened; the figures are those that `ftl run --in-process` reports.
"""

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ftl.collect import collect
from ftl.consortium import Folder, load, new
from ftl.federation import MemoryEngine, Request, Result
from ftl.quality import check


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=int, nargs="+", default=[1000, 250, 100, 0], help="training customers of both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="draws of them")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the recipe, as JSON values"
    )
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


def measure(shared: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run's figures."""
    with tempfile.TemporaryDirectory() as directory:
        folder = prepare(Path(directory) / "taiwan", shared, seed)
        start = time.perf_counter()
        result = train(folder, seed, settings)
        seconds = time.perf_counter() - start
    return {
        "shared": shared,
        "seed": seed,
        "aligned": result.aligned,
        "active_only_auc": result.metrics["active_only"].auc,
        "federated_auc": result.metrics["federated"].auc,
        "federated_interval": result.metrics["federated"].intervals.get("auc"),
        "rounds_kept": result.settings.get("rounds_kept"),
        "scale": result.combiner.scale,
        "fell_back": result.combiner.fell_back,
        "seconds": {**result.seconds, "total": seconds},
        "bytes_sent": result.bytes_sent,
        "messages": result.messages,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Means and standard deviations over seeds."""
    figures: dict[str, float] = {}
    for name in ("active_only_auc", "federated_auc"):
        values = [run[name] for run in runs]
        figures |= {f"{name}_mean": statistics.fmean(values), f"{name}_sd": statistics.pstdev(values)}
    gains = [run["federated_auc"] - run["active_only_auc"] for run in runs]
    return {**figures, "gain_least": min(gains), "train_seconds": statistics.fmean(r["seconds"]["train"] for r in runs)}


def main() -> None:
    given = arguments()
    settings = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in given.set)}
    runs, means = [], {}
    for shared in given.shared:
        mine = []
        for seed in given.seeds:
            mine.append(measure(shared, seed, settings))
            if not given.json:
                one = mine[-1]
                print(
                    f"{shared:>6} shared, seed {seed}: {one['active_only_auc']:.4f} → {one['federated_auc']:.4f}",
                    flush=True,
                )
        runs += mine
        means[shared] = summary(mine)
    if given.json:
        print(json.dumps({"runs": runs, "means": means}, indent=1))
        return
    print(f"\n{'shared':>6}  {'bank only':>9}  {'transfer_boost':>15}  {'least gain':>10}  {'train s':>7}")
    for shared, row in means.items():
        federated = f"{row['federated_auc_mean']:.4f} ± {row['federated_auc_sd']:.4f}"
        print(
            f"{shared:>6}  {row['active_only_auc_mean']:>9.4f}  {federated:>15}  {row['gain_least']:>10.4f}"
            f"  {row['train_seconds']:>7.1f}"
        )


if __name__ == "__main__":
    main()
