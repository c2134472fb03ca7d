"""What the active party says of a run: figures of the models on the holdout, or what a recipe without a model found."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.consortium import Consortium
from ftl.errors import FederationError
from ftl.features import Frame
from ftl.federation.assessment import AFTER, BEFORE, assess
from ftl.federation.evaluation import Gain
from ftl.federation.fairness import groups
from ftl.federation.people import Rows
from ftl.federation.run import Evaluated, Group
from ftl.protocols import Combiner, Outcome, Task

ALONE = "alone:"
"""Before a passive party's name: the figures of its columns alone."""
COUNTED = "The shared people were only counted, because alignment.result is 'one': nothing was trained."


class Verdict(msgspec.Struct, frozen=True):
    """What only the active party can say of a run.

    Attributes:
        aligned: ``train`` and ``test``: shared people used.
        metrics: ``active_only``, ``federated``, ``alone:PARTY``, as far as the recipe answers.
        gain: metric to difference with its interval.
        combiner: turns sub-scores into an answer; None where there is no model.
        settings: the recipe's settings that were chosen.
        report: what a recipe without a model found.
        groups: how the model treats groups of people.
    """

    aligned: dict[str, int]
    metrics: dict[str, Evaluated]
    gain: Gain
    combiner: Combiner | None
    settings: dict[str, Any]
    report: dict[str, Any] | None = None
    groups: list[Group] = []


def judged(task: Task, outcome: Outcome, aligned: dict[str, int], recipe: str, declared: Consortium) -> Verdict:
    """The verdict on what a recipe returned at the active party.

    Args:
        task: as the recipe was given it.
        outcome: what it returned.
        aligned: ``train`` and ``test``: shared people used.
        recipe: its name, for errors.
        declared: says which columns are protected, and who counts as approved.

    Raises:
        FederationError: the outcome has neither a model with its answers nor a report, or no figure can be computed.
    """
    report = None if outcome.report is None else _plain(outcome.report, recipe)
    answers = {BEFORE: outcome.baseline, AFTER: outcome.probability}
    if (outcome.combiner is None and report is None) or (outcome.combiner is not None and answers[AFTER] is None):
        raise FederationError(
            f"recipe {recipe} returned no combiner, or none of its answers, at the active party, and no report.",
            cure="A recipe's Outcome must have a combiner and probabilities, or a report; correct the recipe.",
        )
    given = {name: answer for name, answer in answers.items() if answer is not None}
    given |= {f"{ALONE}{party}": answer for party, answer in outcome.alone.items()}
    metrics, gain = assess(task.frame, task.test, given, task.seed) if given else ({}, {})
    found = _groups(task, answers[AFTER], declared)
    return Verdict(aligned, metrics, gain, outcome.combiner, dict(outcome.settings), report, found)


def _groups(task: Task, answer: NDArray[np.float64] | None, declared: Consortium) -> list[Group]:
    if answer is None or task.frame.kind != "binary":
        return []
    protected = declared.parties[declared.active].features.protected
    return groups(task.frame, task.test, answer, protected, declared.registry.cutoff)


def counted(frame: Frame, rows: Rows) -> Verdict:
    """The verdict of a run in which people were found and nothing else was done.

    Args:
        frame: the active party's.
        rows: int64, shape (m,), its rows of the shared people.
    """
    if frame.label is None or frame.holdout is None:
        raise FederationError("the active party's frame has no label.", cure="Declare its label in consortium.yaml.")
    known, held = ~np.isnan(frame.label[rows]), frame.holdout[rows]
    aligned = {"train": int((known & ~held).sum()), "test": int((known & held).sum())}
    return Verdict(aligned, {}, {}, None, {}, {"shared_people": len(rows), "note": COUNTED})


def _plain(report: Any, recipe: str) -> dict[str, Any]:
    """The report as it is after a journey as JSON, so that every engine gives the same."""
    try:
        return msgspec.json.decode(msgspec.json.encode(report), type=dict[str, Any])
    except (TypeError, msgspec.MsgspecError) as exc:
        raise FederationError(
            f"the report of recipe {recipe} does not consist of plain JSON values: {exc}.", cure="Correct the recipe."
        ) from exc
