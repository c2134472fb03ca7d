"""`split_nn`: a neural network cut between organisations (vertical split learning), with both directions protected.

Every passive party turns a person's columns into a short vector: a sum of one learned vector per column and bin, cut to
a fixed length. It releases that vector with Gaussian noise, once per round. The active party joins the vectors with its
own, trains the upper network on them for its label, and returns how the lower tables should move. Gradients of single
people tell their labels (Li et al. 2022), so none are returned: the active party encrypts them, a passive party
adds them up over its bins under encryption and blinds the sums, and what it gets back are sums over many people, with
noise. That the first layer is a table lookup makes its gradient exactly such a sum.

Vepakomma, Gupta, Swedish and Raskar 2018 (split learning for health); Fu et al. 2022 and Li et al. 2022 (what labels
leak from it); Liu et al. 2022 (FedBCD: several local steps for each exchange).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.crypto import AdditiveScheme, scheme_of
from ftl.protocols.recipe import Outcome, Part, Task
from ftl.protocols.split_nn.active import run_active
from ftl.protocols.split_nn.parts import load
from ftl.protocols.split_nn.passive import run_passive
from ftl.protocols.split_nn.settings import Settings, check

__all__ = ["RECIPE", "Settings", "SplitNN"]


@dataclass(frozen=True)
class SplitNN:
    """The recipe.

    Attributes:
        scheme: where ciphers come from; None for the one that the settings name. Tests give one in the clear.
    """

    scheme: AdditiveScheme | None = None
    name: str = field(default="split_nn", init=False)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.split_nn.Settings`."""
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


RECIPE = SplitNN()
