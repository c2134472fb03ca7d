"""A bank over SQLite with a suite of its own, and how to sync and check it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from collect_bank import Bank

from ftl.collect import collect
from ftl.consortium import Consortium, Node
from ftl.quality import QualityReport, check

SUITE = """
import great_expectations.expectations as gxe


def build(suite):
    suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(
        column="limit", min_value=0, max_value=5000, severity="warning", description="is a limit"))
    suite.add_expectation(gxe.ExpectColumnValuesToMatchRegex(
        column="id_number", regex="^AB[0-9]{4}X$", severity="warning", description="is an id number"))
    suite.add_expectation(gxe.ExpectColumnMedianToBeBetween(
        column="limit", min_value=500, severity="critical", description="the median is plausible"))
    suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(
        column="children", max_value=2, severity="info", description="are at most two"))
"""


def at_times() -> Callable[[], datetime]:
    """A clock of which each look is one second later."""
    moments = iter(datetime(2024, 6, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(10**6))
    return lambda: next(moments)


@dataclass
class Checked:
    """A bank over SQLite with a suite."""

    bank: Bank
    clock: Callable[[], datetime]

    @property
    def node(self) -> Node:
        return self.bank.node

    def load(self, rows: list[dict[str, Any]], mode: Any = "full") -> QualityReport:
        """Set the source's content, sync and check."""
        self.bank.write(rows)
        collect(self.node, "customers", mode, self.clock)
        return check(self.node, "customers", self.clock)


def with_settings(node: Node, settings: dict[str, Any] | None = None, table: str = "customers", **party: Any) -> Node:
    """The node with other settings of its table or party."""
    values = node.consortium.model_dump(by_alias=True)
    values["parties"][node.name] |= party
    values["parties"][node.name]["tables"][table] |= settings or {}
    consortium = Consortium.model_validate(values)
    return Node(node.root, node.name, consortium.parties[node.name], consortium)
