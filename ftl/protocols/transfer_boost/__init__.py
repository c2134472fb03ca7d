"""`transfer_boost`: boosting on residuals, for organisations that share few customers.

The active party fits gradient boosting on *all* its labelled rows and keeps each row's out-of-fold log-odds. Starting
from those, the parties grow further small trees on the *shared* rows only, as in SecureBoost (Cheng et al. 2019): the
active party encrypts gradient and hessian, a passive party sums them over its bins, the active party decrypts the sums
and chooses. It learns of a partner's split an opaque number and who goes left; thresholds stay where the column is. One
ensemble grows for each fold of the shared people, all in lockstep, so that a message carries all of them; the people
left out tell how many rounds to keep and how far to trust the trees. The model is the ensembles' mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.crypto import AdditiveScheme, HeuScheme
from ftl.protocols.recipe import Outcome, Part, Task
from ftl.protocols.transfer_boost.active import run_active
from ftl.protocols.transfer_boost.parts import load
from ftl.protocols.transfer_boost.passive import run_passive
from ftl.protocols.transfer_boost.settings import Settings, check

__all__ = ["RECIPE", "Settings", "TransferBoost"]


@dataclass(frozen=True)
class TransferBoost:
    """The recipe.

    Attributes:
        scheme: where ciphers come from; None for the one that the settings name. Tests give one in the clear.
    """

    scheme: AdditiveScheme | None = None
    name: str = field(default="transfer_boost", init=False)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.transfer_boost.Settings`."""
        return check(given)

    def run(self, task: Task, settings: Settings) -> Outcome:
        """This party's program."""
        scheme = self.scheme or HeuScheme(settings.cipher, settings.key_bits)
        if task.active == task.frame.party:
            return run_active(task, settings, scheme)
        return run_passive(task, settings, scheme)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned."""
        return load(part, reasons)


RECIPE = TransferBoost()
