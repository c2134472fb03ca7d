"""The offline gate: a version whose figures on the holdout are too weak never competes for live traffic.

It runs on what the federation reported, by MLflow's own ``validate_evaluation_results``.
"""

from collections.abc import Mapping

import msgspec

from ftl.federation import Evaluated, Result

Least = dict[str, float]

LEAST: Least = {"auc": 0.5, "r2": 0.0}
"""What any model must reach: a guess has an AUC of 0.5 and explains none of a number's variance."""
MOST_BELOW_CHAMPION = 0.1
"""Of AUC or R²: a version further below the champion's figure could only cost the applicants that it answers."""


class Gate(msgspec.Struct, frozen=True):
    """What the gate said.

    Attributes:
        passed: whether the version may become challenger.
        why: a sentence for the card and the version's tag.
    """

    passed: bool
    why: str


def gate(result: Result, champion: Mapping[str, float], least: Mapping[str, float] | None = None) -> Gate:
    """Check the federated model's figures against thresholds.

    Args:
        result: of the run.
        champion: figure to its value for the present champion; empty without one.
        least: figure to the smallest value allowed; :data:`LEAST` when None.
    """
    from mlflow.models import EvaluationResult
    from mlflow.models.evaluation.validation import MetricThreshold, ModelValidationFailedException

    import mlflow

    found = result.metrics.get("federated")
    if found is None:
        return Gate(False, "Refused: the run has no figures on a holdout.")
    limits = _limits(found, champion, LEAST if least is None else least)
    thresholds = {name: MetricThreshold(threshold=limit, greater_is_better=True) for name, limit in limits.items()}
    try:
        mlflow.validate_evaluation_results(thresholds, EvaluationResult(metrics=found.figures, artifacts={}))
    except ModelValidationFailedException:
        return Gate(False, f"Refused: {'; '.join(_missed(found, limits))}.")
    return Gate(True, f"Passed: {'; '.join(_reached(found, limits))}.")


def _limits(found: Evaluated, champion: Mapping[str, float], least: Mapping[str, float]) -> Least:
    return {
        name: max(limit, champion.get(name, limit) - MOST_BELOW_CHAMPION)
        for name, limit in least.items()
        if name in found.figures
    }


def _missed(found: Evaluated, limits: Least) -> list[str]:
    return [
        f"{name} is {found.figures[name]:.4f}, at least {limit:.4f} is needed"
        for name, limit in limits.items()
        if not found.figures[name] >= limit
    ]


def _reached(found: Evaluated, limits: Least) -> list[str]:
    return [f"{name} {found.figures[name]:.4f} reaches {limit:.4f}" for name, limit in limits.items()]
