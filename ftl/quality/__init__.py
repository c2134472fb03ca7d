"""Landed lake → validated lake: expectation suites, quarantine, Data Docs.

>>> report = check(node, "accounts", clock)                     # doctest: +SKIP
>>> read_validated(node, "accounts", ["id_number", "limit_bal"])  # doctest: +SKIP
"""

from ftl.quality.check import QualityReport, check
from ftl.quality.read import Refusals, quarantined, read_validated, refusals, validated_version

__all__ = ["QualityReport", "Refusals", "check", "quarantined", "read_validated", "refusals", "validated_version"]
