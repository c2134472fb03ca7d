"""A federated run as values: what is asked, what is reported on the way, what comes out."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

from ftl.consortium import Consortium
from ftl.errors import FederationError
from ftl.features import Kind
from ftl.protocols import Combiner, Step

METRICS: dict[Kind, tuple[str, ...]] = {
    "binary": ("auc", "ks", "brier"),
    "number": ("rmse", "mae", "r2"),
    "classes": ("accuracy", "log_loss", "auc"),
}
"""Figures with a bootstrap interval, by kind of label."""
Rate = tuple[float, float, float]
"""Value with the bounds of its 95 % interval."""


class Request(msgspec.Struct, frozen=True):
    """What the coordinator asks the nodes to do.

    Attributes:
        run_id: names the run everywhere; letters, digits, ``-`` and ``_``.
        recipe: name of the recipe.
        seed: of every draw that must repeat.
        settings: the recipe's settings as given by the user.
        max_shared: use at most so many shared training people; None for all.
        timeout: seconds to wait for any one message.
        parties: who takes part; empty for all.
        result: who learns which people are shared, ``both`` or ``one``; None for what `consortium.yaml` says.
    """

    run_id: str
    recipe: str
    seed: int
    settings: dict[str, Any] = {}
    max_shared: int | None = None
    timeout: float = 300.0
    parties: list[str] = []
    result: Literal["both", "one"] | None = None


def members(request: Request, consortium: Consortium) -> tuple[str, ...]:
    """Who takes part in a run, in the order of `consortium.yaml`.

    Args:
        request: of the run.
        consortium: its parties.

    Returns:
        the active party and at least one other.

    Raises:
        FederationError: someone unknown is named, or the active party or everybody else is left out.
    """
    unknown = [name for name in request.parties if name not in consortium.parties]
    if unknown:
        known = ", ".join(consortium.parties)
        raise FederationError(f"There is no party {unknown[0]!r}.", cure=f"There are: {known}.")
    chosen = tuple(name for name in consortium.parties if not request.parties or name in request.parties)
    if consortium.active not in chosen or len(chosen) < 2:
        raise FederationError(
            f"A run needs {consortium.active}, which has the label, and at least one other party.",
            cure=f"Choose {consortium.active} and one or more of {', '.join(consortium.passive)}.",
        )
    return chosen


class Progress(msgspec.Struct, frozen=True):
    """One line of a run's progress file.

    Attributes:
        number: 1, 2, … without gaps.
        party: who reports.
        step: phase ``align``, ``base``, ``train``, ``predict`` or ``evaluate``, with rounds and metrics.
        elapsed: seconds since the run started.
    """

    number: int
    party: str
    step: Step
    elapsed: float


class Curves(msgspec.Struct, frozen=True):
    """Aggregated curves on a fixed grid, so that no person's label can be read from them.

    Attributes:
        false_positive_rate, true_positive_rate: ROC on a grid of 101 false positive rates 0, 0.01 … 1.
        calibration: per tenth of the people by predicted probability: (mean predicted, share of bad, people).
    """

    false_positive_rate: list[float]
    true_positive_rate: list[float]
    calibration: list[tuple[float, float, int]]


class Evaluation(msgspec.Struct, frozen=True, tag_field="kind", tag="binary"):
    """Figures on the holdout, of a label that is bad or good.

    Attributes:
        auc, ks, brier: area under the ROC curve; Kolmogorov–Smirnov distance; mean squared error of the probability.
        calibration_slope, calibration_intercept: logistic regression of the label on the log-odds (1 and 0 are ideal).
        intervals: metric to its 95 % bootstrap percentile interval.
        people, bad: how many were scored, how many of them are bad.
    """

    auc: float
    ks: float
    brier: float
    calibration_slope: float
    calibration_intercept: float
    intervals: dict[str, tuple[float, float]]
    people: int
    bad: int
    curves: Curves

    @property
    def figures(self) -> dict[str, float]:
        """Name to value of all figures but counts."""
        return {
            name: getattr(self, name) for name in (*METRICS["binary"], "calibration_slope", "calibration_intercept")
        }


class NumberEvaluation(msgspec.Struct, frozen=True, tag_field="kind", tag="number"):
    """Figures on the holdout, of a label that is a number.

    Attributes:
        rmse, mae: root of the mean squared error and mean absolute error, in the label's unit.
        r2: share of the label's variance that is explained.
        intervals: metric to its 95 % bootstrap percentile interval.
        people: how many were scored.
        calibration: per group of people by predicted number: (mean predicted, mean found, people); up to ten groups,
            none too small to hide a person in.
    """

    rmse: float
    mae: float
    r2: float
    intervals: dict[str, tuple[float, float]]
    people: int
    calibration: list[tuple[float, float, int]]

    @property
    def figures(self) -> dict[str, float]:
        """Name to value of all figures but counts."""
        return {name: getattr(self, name) for name in METRICS["number"]}


class ClassEvaluation(msgspec.Struct, frozen=True, tag_field="kind", tag="classes"):
    """Figures on the holdout, of a label that is one of several classes.

    Attributes:
        accuracy: share of people whose most probable class is the right one.
        log_loss: mean of minus the logarithm of the right class's probability.
        auc: area under the ROC curve of each class against all others, averaged over the classes.
        intervals: metric to its 95 % bootstrap percentile interval.
        people: how many were scored.
        classes: class to how many of them are of it.
    """

    accuracy: float
    log_loss: float
    auc: float
    intervals: dict[str, tuple[float, float]]
    people: int
    classes: dict[str, int]

    @property
    def figures(self) -> dict[str, float]:
        """Name to value of all figures but counts."""
        return {name: getattr(self, name) for name in METRICS["classes"]}


Evaluated = Evaluation | NumberEvaluation | ClassEvaluation


class PartPointer(msgspec.Struct, frozen=True):
    """Where one party's model part is, without its content."""

    party: str
    sha256: str
    bytes: int
    columns: int
    table_version: int | None = None
    """Delta version of the validated table that it was trained on."""


class Group(msgspec.Struct, frozen=True):
    """One group.

    Attributes:
        column: protected.
        value: that its people share; of a number, which third they belong to.
        people: how many.
        approval: share at or below the cut-off.
        bad: share of bad people.
        auc: within the group.
    """

    column: str
    value: str
    people: int
    approval: Rate
    bad: Rate
    auc: Rate


class Result(msgspec.Struct, frozen=True):
    """What a finished run tells the coordinator. No row, no identifier, no threshold."""

    run_id: str
    recipe: str
    seed: int
    aligned: dict[str, int]
    """``{"train": n, "test": n}``: shared people used."""
    metrics: dict[str, Evaluated]
    """``federated``, ``active_only`` where the recipe fits a model of the active party alone, ``alone:PARTY`` for each
    passive party whose columns alone can answer: all on the same people. Empty of a recipe that leaves no model."""
    gain: dict[str, tuple[float, float, float]]
    """Metric to federated minus active_only, with its paired 95 % bootstrap interval; empty without active_only."""
    combiner: Combiner | None
    """None of a recipe that leaves a report and no model."""
    parts: list[PartPointer]
    rows: dict[str, int]
    columns: dict[str, int]
    settings: dict[str, Any]
    seconds: dict[str, float]
    """``align``, ``train``, ``evaluate``."""
    bytes_sent: dict[str, int]
    messages: dict[str, int]
    notes: list[str] = []
    report: dict[str, Any] | None = None
    """What a recipe without a model found, as plain JSON values."""
    groups: list[Group] = []
    """How the model treats groups of the active party's protected columns; of a label that is bad or good."""


class Engine(Protocol):
    """Carries a run: in memory, or over NVFlare."""

    def submit(self, request: Request) -> None:
        """Start the run; does nothing when a run of that id was already submitted (so a retried caller re-attaches)."""
        ...

    def watch(self, run_id: str, after: int = 0) -> Iterator[Progress]:
        """Progress lines with a number above `after`, as they come, until the run ends.

        Raises:
            FederationError: the run failed; says at which party and why.
        """
        ...

    def result(self, run_id: str) -> Result:
        """The result of a finished run."""
        ...
