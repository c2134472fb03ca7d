"""What can go wrong with a score, under a code each; what is wrong is referred to a person and never decided."""

import math

from ftl.decision.declared import Anomaly
from ftl.decision.policy import Policy
from ftl.decision.scores import Scored
from ftl.errors import FtlError

NOBODY = "Nobody who could score knows the applicant."
NO_NUMBER = "The model gave no number."
OUTSIDE = "The probability lies outside the range that the model was calibrated on."
TOO_MUCH = "The reasons cost more points than this band can have lost."
UNEXPLAINED = "No reason explains the score."


def anomaly(policy: Policy, scored: Scored | FtlError | None) -> tuple[Anomaly, str] | None:
    """What is wrong with a score, and in which words; None where nothing is.

    Args:
        policy: that counts today.
        scored: by the model; why it could not be scored; or None where nobody knows the applicant.
    """
    if scored is None:
        return "cannot_score", NOBODY
    if not isinstance(scored, Scored):
        return "run_time_error", scored.message
    if not math.isfinite(scored.probability):
        return "cannot_score", NO_NUMBER
    low, high = policy.declared.calibrated
    if not low <= scored.probability <= high:
        return "abnormal_score", OUTSIDE
    contradiction = _contradiction(policy, scored)
    return ("abnormal_score", contradiction) if contradiction else None


def again(policy: Policy, scored: Scored | FtlError | None) -> bool:
    """Whether the parties should be asked once more, as far as the policy's `retried` says.

    Args:
        policy: that counts today.
        scored: as for :func:`anomaly`; an error that stays the same when asked again is not worth it.
    """
    if isinstance(scored, FtlError) and not scored.transient:
        return False
    found = anomaly(policy, scored)
    return found is not None and found[0] in policy.declared.retried


def _contradiction(policy: Policy, scored: Scored) -> str | None:
    """Reasons that do not go with the score."""
    if scored.lost is None:
        return None
    band, declared = policy.band(scored.probability), policy.declared
    if sum(scored.lost) > declared.most_lost.get(band, math.inf):
        return TOO_MUCH
    return UNEXPLAINED if band in declared.explained and not scored.lost else None
