"""`secure_boost`: boosted trees on the people that all parties share, with every party's columns.

The trees are XGBoost's (Chen and Guestrin 2016) to fixed-point rounding, grown as in SecureBoost (Cheng et al. 2019) by
:mod:`ftl.protocols.boosting`: the active party encrypts gradients, the others sum them over their bins, thresholds stay
where their column is. Labels may be good or bad, a number, or one of several classes. Unlike `transfer_boost` it starts
from nothing and uses shared people only, so it is the choice when most customers are shared. People whom a passive
party does not know are answered by the active party's own model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.crypto import AdditiveScheme, scheme_of
from ftl.protocols.recipe import Outcome, Part, Task
from ftl.protocols.secure_boost.active import run_active
from ftl.protocols.secure_boost.parts import load
from ftl.protocols.secure_boost.passive import run_passive
from ftl.protocols.secure_boost.settings import Settings, check

__all__ = ["RECIPE", "SecureBoost", "Settings"]


@dataclass(frozen=True)
class SecureBoost:
    """The recipe.

    Attributes:
        scheme: where ciphers come from; None for the one that the settings name. Tests give one in the clear.
    """

    scheme: AdditiveScheme | None = None
    name: str = field(default="secure_boost", init=False)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.secure_boost.Settings`."""
        return check(given)

    def run(self, task: Task, settings: Settings) -> Outcome:
        """This party's program."""
        scheme = self.scheme or scheme_of(settings.cipher, settings.key_bits)
        if task.active == task.frame.party:
            return run_active(task, settings, scheme)
        return run_passive(task, settings, scheme)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned."""
        return load(part, reasons)


RECIPE = SecureBoost()
