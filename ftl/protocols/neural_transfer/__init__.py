"""`neural_transfer`: labels of one party reach another's people through networks that agree on shared people.

Secure federated transfer learning of Liu, Kang, Xing, Chen and Yang (2018, arXiv 1812.03337). Each party turns its
columns into a vector of d numbers by a network of its own. The active party's labelled people give one vector, phi,
their mean signed by the label; a person of the passive party is answered by the inner product with it. Networks are
trained such that shared people get the right answer, and similar vectors in both parties. Gradients are computed under
encryption or on secret shares, and a party learns of them only the sums that change its own weights.

For two parties, and for people whom only the passive one knows. With shared people enough to fit trees, boosting on the
passive party's columns is more accurate: see docs/privacy/neural_transfer.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftl.protocols.neural_transfer.parts import load
from ftl.protocols.neural_transfer.settings import Settings, check
from ftl.protocols.recipe import Outcome, Part, Task

__all__ = ["RECIPE", "NeuralTransfer", "Settings"]


@dataclass(frozen=True)
class NeuralTransfer:
    """The recipe. Scoring loads neither torch nor TenSEAL."""

    name: str = field(default="neural_transfer", init=False)

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.neural_transfer.Settings`."""
        return check(given)

    def run(self, task: Task, settings: Settings) -> Outcome:
        """This party's program."""
        from ftl.protocols.neural_transfer.active import run_active
        from ftl.protocols.neural_transfer.passive import run_passive

        if task.active == task.frame.party:
            return run_active(task, settings)
        return run_passive(task, settings)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned."""
        return load(part, reasons)


RECIPE = NeuralTransfer()
