"""The offline gate: a version whose figures on the holdout are too weak never competes for live traffic.

It runs on what the federation reported, by MLflow's own ``validate_evaluation_results``.
"""

from collections.abc import Mapping

import msgspec

from ftl.consortium.deciding import Gate as Thresholds
from ftl.federation import Evaluated, Result

Limits = dict[str, float]
"""Figure to the smallest value allowed."""


class Gate(msgspec.Struct, frozen=True):
    """What the gate said.

    Attributes:
        passed: whether the version may become challenger.
        why: a sentence for the card and the version's tag.
    """

    passed: bool
    why: str


def gate(result: Result, champion: Mapping[str, float], declared: Thresholds | None = None) -> Gate:
    """Check the federated model's figures against thresholds.

    Args:
        result: of the run.
        champion: figure to its value for the present champion; empty without one.
        declared: the consortium's thresholds; the defaults when None.
    """
    from mlflow.models import EvaluationResult
    from mlflow.models.evaluation.validation import MetricThreshold, ModelValidationFailedException

    import mlflow

    found = result.metrics.get("federated")
    if found is None:
        return Gate(False, "Refused: the run has no figures on a holdout.")
    limits = _limits(found, champion, declared or Thresholds())
    thresholds = {name: MetricThreshold(threshold=limit, greater_is_better=True) for name, limit in limits.items()}
    try:
        mlflow.validate_evaluation_results(thresholds, EvaluationResult(metrics=found.figures, artifacts={}))
    except ModelValidationFailedException:
        return Gate(False, f"Refused: {'; '.join(_missed(found, limits))}.")
    return Gate(True, f"Passed: {'; '.join(_reached(found, limits))}.")


def _limits(found: Evaluated, champion: Mapping[str, float], declared: Thresholds) -> Limits:
    return {
        name: max(limit, champion.get(name, limit) - declared.below_champion)
        for name, limit in declared.least.items()
        if name in found.figures
    }


def _missed(found: Evaluated, limits: Limits) -> list[str]:
    return [
        f"{name} is {found.figures[name]:.4f}, at least {limit:.4f} is needed"
        for name, limit in limits.items()
        if not found.figures[name] >= limit
    ]


def _reached(found: Evaluated, limits: Limits) -> list[str]:
    return [f"{name} {found.figures[name]:.4f} reaches {limit:.4f}" for name, limit in limits.items()]
