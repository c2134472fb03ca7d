"""AUC of `secure_boost` against boosting in the clear: ``python -m benchmarks.protocols.boosting_accuracy --json``.

The tables and settings of `benchmarks.protocols.secure_boost`, for several draws of who trains and who tests, since one
draw of 6,000 people moves a difference of AUC by 0.001 and more. On each draw: the encrypted run with both parties, the
same trees on all columns in one place with nothing encrypted or withheld, scikit-learn's histogram boosting, and
XGBoost where ``--xgboost PYTHON`` names an interpreter that can import it (an environment of its own:
``python -m venv ENV`` and ``ENV/bin/pip install xgboost``); without it the object says so under ``missing``. All have
as many trees, levels and bins, the same learning rate and the same penalty on leaves.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.protocols.secure_boost import SETTINGS, TIMEOUT, Data, credit, in_the_clear, measure, taiwan
from ftl.protocols.secure_boost import RECIPE

TABLES = {"taiwan": taiwan, "credit": credit}
PROGRAM = """
import json, sys
import numpy as np, xgboost
given = json.loads(sys.argv[2])
rows = np.load(sys.argv[1])
model = xgboost.XGBClassifier(tree_method="hist", n_jobs=1, **given).fit(rows["train"], rows["label"])
answers = model.predict_proba(rows["test"])[:, 1]
print(json.dumps({"answers": answers.tolist(), "version": xgboost.__version__}))
"""

Figures = dict[str, Any]


def compare(table: str, draws: int, settings: dict[str, Any], xgboost: Path | None) -> Figures:
    """AUC by draw, and of each peer the mean of ours minus the peer's, with its standard error."""
    runs = [_draw(TABLES[table](seed), settings, xgboost) for seed in range(draws)]
    names = [name for name in runs[0] if name != "missing"]
    auc = {name: [round(run[name], 5) for run in runs] for name in names}
    minus = {name: _difference(auc["secure_boost"], auc[name]) for name in names if name != "secure_boost"}
    figures = {"auc": auc, "mean": {name: round(float(np.mean(auc[name])), 4) for name in names}, "ours_minus": minus}
    return figures | {name: runs[0][name] for name in ("missing",) if name in runs[0]}


def _difference(ours: list[float], theirs: list[float]) -> Figures:
    gaps = np.array(ours) - np.array(theirs)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else None
    return {"mean": round(float(gaps.mean()), 5), "standard_error": None if error is None else round(error, 5)}


def _draw(data: Data, settings: dict[str, Any], xgboost: Path | None) -> Figures:
    """AUC of all on one draw; or why XGBoost is not among them."""
    label = data.bank.label
    assert label is not None
    rows = np.column_stack([data.bank.values, data.partner.values])
    train, test = rows[: data.train], rows[data.train :]
    figures: Figures = {
        "secure_boost": measure(data, settings)["exact_auc"],
        "in_the_clear": in_the_clear(data, settings)["exact_auc"],
        "sklearn": float(roc_auc_score(label[data.train :], _sklearn(train, label[: data.train], test, settings))),
    }
    found = _xgboost(train, label[: data.train], test, settings, xgboost)
    if "answers" not in found:
        return figures | {"missing": found["missing"]}
    return figures | {"xgboost": float(roc_auc_score(label[data.train :], found["answers"]))}


def _sklearn(train: Any, label: Any, test: Any, settings: dict[str, Any]) -> Any:
    given = RECIPE.settings(settings)
    model = HistGradientBoostingClassifier(
        learning_rate=given.learning_rate, max_iter=given.rounds, max_depth=given.depth,
        max_leaf_nodes=2**given.depth, min_samples_leaf=given.min_bucket, l2_regularization=given.l2,
        max_bins=given.max_bins, early_stopping=False,
    )  # fmt: skip
    return model.fit(train, label).predict_proba(test)[:, 1]


def _xgboost(train: Any, label: Any, test: Any, settings: dict[str, Any], python: Path | None) -> Figures:
    """What XGBoost answers for `test`, in an environment of its own."""
    if python is None:
        return {"missing": "XGBoost: no --xgboost PYTHON was given"}
    given = RECIPE.settings(settings)
    chosen = {
        "n_estimators": given.rounds, "max_depth": given.depth, "learning_rate": given.learning_rate,
        "reg_lambda": given.l2, "gamma": given.min_gain, "min_child_weight": given.min_hessian,
        "max_bin": given.max_bins,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.npz"
        np.savez(file, train=train, label=label, test=test)
        command = [str(python), "-c", PROGRAM, str(file), json.dumps(chosen)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except OSError as exc:
            return {"missing": f"XGBoost: {python} cannot be run: {exc}"}
    if done.returncode:
        return {"missing": f"XGBoost: its program ended with {(done.stderr.splitlines() or ['nothing'])[-1]!r}"}
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--draws", type=int, default=5, help="of training and test people: seeds 0 to N - 1")
    parser.add_argument("--trees", type=int, default=SETTINGS["rounds"])
    parser.add_argument("--xgboost", type=Path, metavar="PYTHON", help="interpreter that can import xgboost")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    load, settings = os.getloadavg()[0], {**SETTINGS, "rounds": given.trees}
    found = {table: compare(table, given.draws, settings, given.xgboost) for table in given.tables}
    names = {"taiwan": "secure_boost_auc_loss", "credit": "secure_boost_150k_auc_loss"}
    figures: Figures = {names[table]: -each["ours_minus"]["in_the_clear"]["mean"] for table, each in found.items()}
    figures |= {"secure_boost_accuracy": found | {"draws": given.draws, "trees": given.trees, "load_before": load}}
    print(json.dumps(figures, indent=None if given.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
