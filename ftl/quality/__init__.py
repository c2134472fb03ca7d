"""Landed lake → validated lake: expectation suites, quarantine, Data Docs.

>>> report = check(node, "accounts", clock)                     # doctest: +SKIP
>>> read_validated(node, "accounts", ["id_number", "limit_bal"])  # doctest: +SKIP
"""

from ftl.quality.check import QualityReport, check
from ftl.quality.read import quarantined, read_validated, validated_version

__all__ = ["QualityReport", "check", "quarantined", "read_validated", "validated_version"]
