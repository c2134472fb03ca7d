"""`feature_report`: which columns of which party are worth modelling with, without a value leaving its owner.

Every party cuts its columns into fine bins. The active party encrypts each shared person's label; a passive party sums
these over its bins and returns the sums under opaque numbers, in secret order; the active party decrypts how many bad
people there are in each, merges bins along which the share of bad people only rises or falls, and computes information
value and gain. Correlations between columns of different parties are dot products of standardised columns, one side of
which is encrypted; from the joint correlation matrix follow variance inflation and the selection. Every owner
keeps its bins as a table, a picture and SQL; a partner's hold weights of evidence only if the active party tells them.

The recipe leaves a report and no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.crypto import AdditiveScheme, scheme_of
from ftl.errors import RegistryError
from ftl.protocols.feature_report.active import run_active
from ftl.protocols.feature_report.passive import run_passive
from ftl.protocols.feature_report.settings import Settings, check
from ftl.protocols.recipe import Outcome, Part, Task

__all__ = ["RECIPE", "FeatureReport", "Settings"]


@dataclass(frozen=True)
class FeatureReport:
    """The recipe.

    Attributes:
        scheme: where ciphers come from; None for the one that the settings name. Tests give one in the clear.
    """

    scheme: AdditiveScheme | None = None
    name: str = field(default="feature_report", init=False)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.feature_report.Settings`."""
        return check(given)

    def run(self, task: Task, settings: Settings) -> Outcome:
        """This party's program."""
        scheme = self.scheme or scheme_of(settings.cipher, settings.key_bits)
        if task.active == task.frame.party:
            return run_active(task, settings, scheme)
        return run_passive(task, settings, scheme)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:  # noqa: ARG002 - nothing is scored
        """Refuse: there is no model.

        Raises:
            RegistryError: always.
        """
        raise RegistryError(
            f"{self.name} leaves a report and no model; its part of {len(part)} bytes cannot score.",
            cure="Train with another recipe on the columns that the report selects.",
        )


RECIPE = FeatureReport()
