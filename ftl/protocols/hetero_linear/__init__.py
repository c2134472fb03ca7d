"""`hetero_logistic` and `hetero_linear`: regression on columns of several organisations, without a trusted third party.

The joint margin is the sum of every party's own part. Residuals of all people exist only as uniform shares of the
active party and one passive party, made by encryption; every party gets the gradient of its own coefficients as sums
over all people, and nothing else of anybody's rows. A quasi-Newton method whose vectors stay with their owners
converges in some ten exchanges to the coefficients of the pooled regression; l1 and l2 penalties and signs of
coefficients are kept. Standard errors follow from the joint information matrix, of which each party sees what its own
errors need.

Each party ends with its own coefficients, in its model part and, with standard errors and p-values, in a table for its
own eyes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftl.protocols.hetero_linear.alone import Link
from ftl.protocols.hetero_linear.parts import load
from ftl.protocols.hetero_linear.settings import Settings, check
from ftl.protocols.hetero_linear.table import FILE, Row, Table
from ftl.protocols.recipe import Outcome, Part, Task

__all__ = ["FILE", "LINEAR", "LOGISTIC", "HeteroLinear", "Row", "Settings", "Table"]


@dataclass(frozen=True)
class HeteroLinear:
    """One of the two recipes. Scoring does not load TenSEAL.

    Attributes:
        name: of the recipe.
        link: ``logit`` for good or bad, ``identity`` for numbers.
    """

    name: str
    link: Link

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Check and freeze the settings; see :class:`~ftl.protocols.hetero_linear.Settings`."""
        return check(self.name, given)

    def run(self, task: Task, settings: Settings) -> Outcome:
        """This party's program."""
        from ftl.protocols.hetero_linear.active import run_active
        from ftl.protocols.hetero_linear.passive import run_passive

        if task.active == task.frame.party:
            return run_active(task, settings, self.link)
        return run_passive(task, settings)

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned."""
        return load(part, reasons)


LOGISTIC = HeteroLinear("hetero_logistic", "logit")
LINEAR = HeteroLinear("hetero_linear", "identity")
