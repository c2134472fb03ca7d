"""`transfer_boost`: boosting on what is left, for organisations that share few customers.

The active party fits gradient boosting on *all* its labelled rows and keeps each row's out-of-fold margin. Then the
parties grow many small trees of the partners' columns on the *shared* people, encrypted as in SecureBoost (see
:mod:`ftl.protocols.boosting`), in up to three stages:

1. *opinion*: trees that learn what the active party's own model thinks of the shared people. That model has learned
   from all its labels, so a few dozen shared people tell what the partners' columns have to do with default.
2. *label*: trees on top of the model's margin that learn from the shared people's own labels.
3. *alone*: trees of one partner's columns that learn from labels and from the joint model, for people whom the active
   party does not know.

One ensemble grows for each fold of the shared people, all in lockstep; the people left out tell how many rounds to
keep, how far to trust opinion and labels, and whether to trust them at all. With few people the weights stay near
values that hold on many data sets (:mod:`ftl.protocols.transfer_boost.blend`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.crypto import AdditiveScheme, scheme_of
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
        scheme = self.scheme or scheme_of(settings.cipher, settings.key_bits)
        if task.active == task.frame.party:
            return run_active(task, settings, scheme)
        return run_passive(task, settings, scheme)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned."""
        return load(part, reasons)


RECIPE = TransferBoost()
