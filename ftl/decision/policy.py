"""Policies: what a risk manager writes in files, and what it means for one application.

A policy is a folder: ``policy.json`` (its version, from when it counts, who approved it, services, bands, weights),
``decision.json`` (decision tables and graphs in JDM, drawn and read by any editor of that format) and
``examples.json`` (a table of examples that it must pass). Of several versions the newest that already counts is used.
"""

import json
import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from ftl.decision.declared import ORDINARY, POLICY, Declared, Module, Plain, check, read
from ftl.errors import PolicyError

SHIPPED = Path(__file__).parent / "policies"
GRAPH, EXAMPLES = "decision.json", "examples.json"


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of ``examples.json``.

    Attributes:
        name: a sentence.
        given: indicators; what is left out is ordinary.
        expect: what the rules must answer for these keys.
    """

    name: str
    given: Plain
    expect: Plain


class Failure(msgspec.Struct, frozen=True):
    """An example that a policy does not pass.

    Attributes:
        name: of the example.
        key: that differs.
        expected: by the example.
        found: instead.
    """

    name: str
    key: str
    expected: Any
    found: Any


class Policy:
    """One version of a policy, ready to decide.

    Args:
        place: its folder.

    Raises:
        PolicyError: a file is missing or wrong; names it and what is wrong.
    """

    def __init__(self, place: Path) -> None:
        import zen

        self.place = place
        self.declared: Declared = read(place / POLICY, Declared)
        check(place, self.declared)
        graph = read(place / GRAPH, dict)
        self._engine = zen.ZenEngine({"loader": {"type": "static", "content": {GRAPH: graph}}})
        self._bands: list[tuple[str, float]] = list(self.declared.bands.items())
        self.rules(ORDINARY)

    @property
    def named(self) -> str:
        """Name and version."""
        return f"{self.declared.name}/{self.declared.version}"

    def modules(self, service: str) -> list[Module]:
        """What runs for a service code.

        Raises:
            PolicyError: the policy has no such service.
        """
        found = self.declared.services.get(service)
        if found is None:
            raise PolicyError("There is no such service.", cure=f"Services: {', '.join(self.declared.services)}.")
        return found

    def band(self, probability: float) -> str:
        """The risk band of a probability of default."""
        return next(band for band, highest in self._bands if probability <= highest)

    def income_band(self, income: float) -> str | None:
        """The band of an income; None below the first, or where the policy has none."""
        return next((band for band, least in reversed(self.declared.income_bands.items()) if income >= least), None)

    def fraud_probability(self, indicators: Mapping[str, Any]) -> float:
        """By the expert's weights, between 0 and 1."""
        weights = self.declared.fraud
        margin = weights.intercept + sum(weight * indicators[name] for name, weight in weights.weights.items())
        return 1 / (1 + math.exp(-min(max(margin, -30.0), 30.0)))

    def rules(self, indicators: Mapping[str, Any]) -> Plain:
        """What the graph makes of an application.

        Args:
            indicators: as :data:`ORDINARY` lists them.

        Returns:
            the graph's output: ``decision``, ``rule``, ``limit``, ``rate``, ``months`` and whatever else it says.

        Raises:
            PolicyError: the graph fails on it; names the node.
        """
        try:
            result: Plain = self._engine.evaluate(GRAPH, dict(indicators))["result"]
        except RuntimeError as exc:
            raise PolicyError(f"{self.place / GRAPH} failed: {_node(exc)}.", cure="Run `ftl policy test`.") from None
        if result.get("decision") not in {"approve", "refer", "decline"}:
            raise PolicyError(
                f"{self.place / GRAPH} answered the decision {result.get('decision')!r}.",
                cure="Its output needs `decision`: approve, refer or decline.",
            )
        return result

    def failures(self) -> list[Failure]:
        """Examples that the policy does not pass."""
        found = []
        for example in read(self.place / EXAMPLES, list[Example]):
            unknown = sorted(example.given.keys() - ORDINARY.keys())
            if unknown:
                raise PolicyError(
                    f"Example {example.name!r} gives {unknown[0]!r}.", cure=f"Known: {', '.join(ORDINARY)}."
                )
            said = self.rules({**ORDINARY, **example.given})
            found += [
                Failure(example.name, key, wanted, said.get(key))
                for key, wanted in example.expect.items()
                if said.get(key) != wanted
            ]
        return found


def effective(places: list[Path], today: date) -> Path:
    """The folder of the newest policy that already counts.

    Args:
        places: folders with a ``policy.json`` each.
        today: the day.

    Raises:
        PolicyError: none counts yet, or two begin on the same day.
    """
    dated: list[tuple[date, str]] = sorted(
        (read(place / POLICY, Declared).effective_from, str(place)) for place in places
    )
    now = [one for one in dated if one[0] <= today]
    if not now:
        raise PolicyError("No policy counts yet.", cure="Set `effective_from` of one to a day that has come.")
    if len(now) > 1 and now[-1][0] == now[-2][0]:
        raise PolicyError(
            f"{now[-1][1]} and {now[-2][1]} begin on the same day.", cure="Change `effective_from` of one."
        )
    return Path(now[-1][1])


def policies(own: Path) -> list[Path]:
    """Folders of a consortium's own policies; the shipped one where it has none.

    Args:
        own: the consortium's folder for policies; need not exist.
    """
    found = sorted(path.parent for path in own.glob(f"*/{POLICY}"))
    return found or [SHIPPED / "standard"]


def _node(error: RuntimeError) -> str:
    """The engine's own words without its stack; they name nodes and expressions, never values."""
    try:
        said = json.loads(str(error).partition("\n")[0])
        return f"node {said.get('nodeId')!r}: {said.get('source')}"
    except (json.JSONDecodeError, AttributeError):
        return "its engine refused it"
