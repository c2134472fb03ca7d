"""Sub-scores become scores and the reasons for them."""

from ftl.decision.reasons import MOST_REASONS, Costs, Losses, losses, ranked
from ftl.decision.scorecard import points_per_log_odds, probability, score

__all__ = ["MOST_REASONS", "Costs", "Losses", "losses", "points_per_log_odds", "probability", "ranked", "score"]
