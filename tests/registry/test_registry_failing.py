"""A challenger that fails to answer: seen from its errors alone, long before any outcome is known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ftl.registry.competition import Experiment, Exposure, Outcome, experiment_page, judge
from ftl.registry.competition.experiment import Limits, home
from ftl.registry.competition.observations import EXPOSURES, OUTCOMES

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
NOW = BEGAN + timedelta(days=3)


class Folder:
    """As much of a consortium's folder as an experiment needs."""

    def __init__(self, root: Path) -> None:
        self.coordinator = root


def written(folder: Folder, exposures: list[Exposure], outcomes: list[Outcome], limits: Limits | None = None) -> None:
    one = Experiment("e", "credit_risk", "1", {"2": 0.5}, "split", "00" * 32, BEGAN, limits=limits or Limits())
    place = home(folder) / "e"
    place.mkdir(parents=True)
    (place / "experiment.json").write_bytes(msgspec.json.encode(one))
    for path, lines in ((place / EXPOSURES, exposures), (place.parent / OUTCOMES, outcomes)):
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def better(count: int, failing: int) -> tuple[list[Exposure], list[Outcome]]:
    """A challenger that ranks much better and fails to answer every `failing`-th request."""
    generator = np.random.default_rng(3)
    bad = generator.random(count) < 0.3
    champion, challenger = (np.clip(0.3 + 0.2 * bad + generator.normal(0, s, count), 0.01, 0.99) for s in (0.4, 0.1))
    exposures = []
    for n in range(count):
        scored = {"1": float(champion[n]), "2": float(challenger[n])}
        if n % failing == 0:
            exposures.append(Exposure(float(n), f"f{n}", "1", {"1": scored["1"]}, 5.0, [], ["2"]))
        exposures.append(Exposure(float(n), f"s{n}", "1", scored, 5.0))
    return exposures, [Outcome(float(n), f"s{n}", "bad" if bad[n] else "good") for n in range(count)]


def test_a_better_challenger_that_fails_one_request_in_twenty_is_held_back(tmp_path: Path) -> None:
    generous = Limits(calibration=9, stability=99, errors=1)
    exposures, outcomes = better(3000, 19)
    written(Folder(tmp_path / "strict"), exposures, outcomes, msgspec.structs.replace(generous, errors=0.01))
    written(Folder(tmp_path / "generous"), exposures, outcomes, generous)
    (held,), (won,) = judge(Folder(tmp_path / "strict"), "e", NOW), judge(Folder(tmp_path / "generous"), "e", NOW)
    assert (held.decision, held.broken) == ("continue", ["it failed to answer 5.0% of its requests"])
    assert held.comparison is not None
    assert held.comparison.challenger.errors == pytest.approx(158 / 3158)
    assert held.comparison.champion.errors == 0
    assert (won.decision, won.broken) == ("promote", [])


def test_a_challenger_that_always_fails_is_seen_without_any_outcome_and_on_the_page(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    written(folder, [Exposure(float(n), f"s{n}", "1", {"1": 0.1}, 5.0, [], ["2"]) for n in range(50)], [])
    (one,) = judge(folder, "e", NOW)
    assert one.decision == "continue"
    assert one.broken == ["it failed to answer 100.0% of its requests"]
    assert "it failed to answer 100.0% of its requests" in experiment_page(folder, "e")


def test_errors_that_both_have_are_not_the_challengers(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    down = [Exposure(float(n), f"d{n}", "1", {}, 5.0, [], ["1", "2"]) for n in range(30)]
    fine = [Exposure(float(n), f"s{n}", "1", {"1": 0.1, "2": 0.2}, 5.0) for n in range(70)]
    written(folder, [*down, *fine], [])
    (one,) = judge(folder, "e", NOW)
    assert one.broken == []


def test_who_got_no_answer_at_first_counts_with_the_answer_they_got_later(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    exposures = [
        Exposure(1.0, "a", "1", {"1": 0.1}, 5.0, [], ["2"]),
        Exposure(2.0, "a", "1", {"1": 0.1, "2": 0.2}, 5.0),
    ]
    written(folder, exposures, [Outcome(3.0, "a", "bad")])
    (one,) = judge(folder, "e", NOW)
    assert one.why.startswith("1 bad and 0 good outcomes are known")
