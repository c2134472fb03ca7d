"""The running verdict of an experiment: go on, promote the challenger, or keep the champion; and why."""

from datetime import datetime
from typing import Literal

import msgspec

from ftl.consortium import Folder
from ftl.crypto.keystore import replace
from ftl.registry.competition.comparison import Comparison, Figures, compare
from ftl.registry.competition.experiment import Experiment, home, read_experiment
from ftl.registry.competition.observations import Observations, observations
from ftl.registry.competition.sequential import always_valid_p, interval

LOOKS = "looks.json"
Decision = Literal["continue", "promote", "keep"]


class Verdict(msgspec.Struct, frozen=True):
    """What can be said of one challenger at one look.

    Attributes:
        at: of the look.
        challenger: version.
        decision: ``promote`` it, ``keep`` the champion for good, or ``continue``.
        why: a sentence.
        p: always-valid p-value against "the challenger ranks no better", the smallest of all looks.
        low, high: of the AUC difference; holds at all looks together.
        broken: guardrails that the challenger breaks.
        comparison: the figures, once there are enough outcomes.
    """

    at: datetime
    challenger: str
    decision: Decision
    why: str
    p: float = 1.0
    low: float = -1.0
    high: float = 1.0
    broken: list[str] = []
    comparison: Comparison | None = None


def judge(folder: Folder, name: str, now: datetime) -> list[Verdict]:
    """Look at an experiment; every look is kept, so that the next one knows the smallest p-value so far.

    Args:
        folder: the consortium.
        name: of the experiment.
        now: with its zone.

    Returns:
        one verdict per challenger, in the experiment's order.

    Raises:
        RegistryError: there is no such experiment, or what was observed is unreadable.
    """
    experiment = read_experiment(folder, name)
    before = looks(folder, name)
    verdicts = [_look(folder, experiment, challenger, before, now) for challenger in experiment.challengers]
    replace(home(folder) / name / LOOKS, msgspec.json.encode([*before, *verdicts]))
    return verdicts


def looks(folder: Folder, name: str) -> list[Verdict]:
    """All verdicts so far, oldest first."""
    path = home(folder) / name / LOOKS
    return msgspec.json.decode(path.read_bytes(), type=list[Verdict]) if path.exists() else []


def _look(folder: Folder, experiment: Experiment, challenger: str, before: list[Verdict], now: datetime) -> Verdict:
    seen = observations(home(folder) / experiment.name, experiment.champion, challenger)
    bad, good, rule = int(seen.label.sum()), int((1 - seen.label).sum()), experiment.stop
    over = (now - experiment.started).days >= rule.most_days
    if bad < rule.least_bad or good < rule.least_good:
        why = f"{bad} bad and {good} good outcomes are known; {rule.least_bad} and {rule.least_good} are needed."
        return Verdict(
            now, challenger, "keep" if over else "continue", why, broken=_failing(experiment, challenger, seen)
        )
    comparison = compare(seen, experiment.champion, challenger, experiment.cutoff)
    difference, variance = comparison.difference, comparison.variance
    # One look's error is spread over all challengers: with k of them each has alpha / k.
    alpha = rule.alpha / len(experiment.challengers)
    p = always_valid_p(difference, variance, rule.worthwhile)
    p = min([p, *(one.p for one in before if one.challenger == challenger)])
    low, high = interval(difference, variance, rule.worthwhile, rule.alpha)
    broken = [*_broken(experiment, comparison), *_failing(experiment, challenger, seen)]
    decision, why = _decide(p <= alpha, high < 0, broken, over, comparison)
    return Verdict(now, challenger, decision, why, p, max(low, -1.0), min(high, 1.0), broken, comparison)


def _decide(better: bool, worse: bool, broken: list[str], over: bool, comparison: Comparison) -> tuple[Decision, str]:
    gain = f"AUC {comparison.difference:+.4f} on {comparison.people} people"
    if better and not broken:
        return "promote", f"The challenger ranks better: {gain}."
    if better:
        return "keep" if over else "continue", f"The challenger ranks better ({gain}), but {'; '.join(broken)}."
    if worse:
        return "keep", f"The challenger ranks worse: {gain}."
    if over:
        return "keep", f"Time is up without a difference that one could be sure of: {gain}."
    return "continue", f"Not sure yet: {gain}."


def _broken(experiment: Experiment, comparison: Comparison) -> list[str]:
    """Guardrails that the challenger breaks, as parts of a sentence."""
    limits, new, old = experiment.limits, comparison.challenger, comparison.champion
    found = []
    if _slower(new, old) > limits.latency_ratio:
        found.append(f"it is {_slower(new, old):.1f} times as slow")
    if new.degraded > limits.degraded:
        found.append(f"{new.degraded:.1%} of its scores lack a party")
    if not 1 / limits.calibration <= new.calibration <= limits.calibration:
        found.append(f"it predicts {new.calibration:.2f} times the bad rate observed")
    if comparison.stability > limits.stability:
        found.append(f"its scores lie elsewhere (stability index {comparison.stability:.2f})")
    if new.disparity < min(limits.disparity, old.disparity):
        found.append(f"the least approved group is approved {new.disparity:.2f} times as often as the most approved")
    return found


def _failing(experiment: Experiment, challenger: str, seen: Observations) -> list[str]:
    """The guardrail that needs no outcome: a challenger that always fails would never be seen to have any."""
    share = seen.errors[challenger]
    if share <= max(experiment.limits.errors, seen.errors[experiment.champion]):
        return []
    return [f"it failed to answer {share:.1%} of its requests"]


def _slower(new: Figures, old: Figures) -> float:
    """How many times as slow the challenger is; 1 where one of the two has not answered anybody."""
    if new.milliseconds_p99 is None or old.milliseconds_p99 is None:
        return 1.0
    return new.milliseconds_p99 / max(old.milliseconds_p99, 1e-9)
