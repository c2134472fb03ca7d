"""Landed lake → validated lake: expectation suites, quarantine, Data Docs.

>>> report = check(node, "accounts", clock)                     # doctest: +SKIP
>>> read_validated(node, "accounts", ["id_number", "limit_bal"])  # doctest: +SKIP
"""

from ftl.quality.check import QualityReport, check
from ftl.quality.learn import Learned, learn
from ftl.quality.read import Refusals, quarantined, read_validated, refusals, validated_version

__all__ = [
    "Learned",
    "QualityReport",
    "Refusals",
    "check",
    "learn",
    "quarantined",
    "read_validated",
    "refusals",
    "validated_version",
]
