"""Answers scoring requests: a score server per party, and the gateway that asks them.

Servers are started with ``python -m ftl.serving.party DIR PARTY`` and ``python -m ftl.serving.gateway DIR``.
"""

from ftl.serving.answers import Answers, Reason
from ftl.serving.batch import BatchReport, score_file
from ftl.serving.blocking import BlockingScorer, Row
from ftl.serving.credentials import client_token_file, provision_scoring
from ftl.serving.score_gateway import gateway_app
from ftl.serving.score_server import party_app
from ftl.serving.scorer import BUDGET_SECONDS, Scorer
from ftl.serving.told import tell_outcomes

__all__ = [
    "BUDGET_SECONDS",
    "Answers",
    "BatchReport",
    "BlockingScorer",
    "Reason",
    "Row",
    "Scorer",
    "client_token_file",
    "gateway_app",
    "party_app",
    "provision_scoring",
    "score_file",
    "tell_outcomes",
]
