"""Sub-scores become scores, the reasons for them, and a decision by the policy that counts."""

from ftl.decision.anomaly import again, anomaly
from ftl.decision.decide import Application, Decision, decide, indicators
from ftl.decision.policy import Policy, effective, policies
from ftl.decision.reasons import MOST_REASONS, Costs, Losses, Ranking, losses, ranked, ranking
from ftl.decision.scorecard import points_per_log_odds, probability, score
from ftl.decision.scores import Basis, Scored, Scores

__all__ = [
    "MOST_REASONS",
    "Application",
    "Basis",
    "Costs",
    "Decision",
    "Losses",
    "Policy",
    "Ranking",
    "Scored",
    "Scores",
    "again",
    "anomaly",
    "decide",
    "effective",
    "indicators",
    "losses",
    "points_per_log_odds",
    "policies",
    "probability",
    "ranked",
    "ranking",
    "score",
]
