"""Champion against challenger: splitting, joining outcomes, comparing, and a test that may be looked at every day."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ftl.errors import RegistryError
from ftl.registry.competition import (
    Experiment,
    Exposure,
    Limits,
    Outcome,
    StopRule,
    always_valid_p,
    judge,
    observations,
)
from ftl.registry.competition.comparison import delong
from ftl.registry.competition.experiment import home
from ftl.registry.competition.observations import EXPOSURES, OUTCOMES
from ftl.registry.competition.sequential import interval

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def experiment(**changes) -> Experiment:
    plain = Experiment("e", "credit_risk", "1", {"2": 0.3}, "split", "ab" * 32, NOW)
    return msgspec.structs.replace(plain, **changes)


class Folder:
    """As much of a consortium's folder as an experiment needs."""

    def __init__(self, root: Path) -> None:
        self.coordinator = root


def write(folder: Folder, one: Experiment, exposures: list[Exposure], outcomes: list[Outcome]) -> Path:
    place = home(folder) / one.name
    place.mkdir(parents=True)
    (place / "experiment.json").write_bytes(msgspec.json.encode(one))
    for path, rows in ((place / EXPOSURES, exposures), (place.parent / OUTCOMES, outcomes)):
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return place


def people(generator: np.random.Generator, count: int, champion: float, challenger: float):
    """Labels and two models' probabilities; each model sees the truth through noise of its own."""
    signal = generator.normal(size=count)
    label = (generator.random(count) < 1 / (1 + np.exp(1.3 - 1.2 * signal))).astype(float)
    seen = [1 / (1 + np.exp(1.3 - (signal + noise * generator.normal(size=count)))) for noise in (champion, challenger)]
    return label, *seen


@given(st.binary(min_size=32, max_size=32))
def test_an_applicant_always_belongs_to_the_same_share(pseudonym):
    assert experiment().arm(pseudonym) == experiment().arm(pseudonym)


def test_shares_are_kept_and_another_key_draws_others():
    pseudonyms = [str(number).encode() for number in range(20_000)]
    one = experiment(challengers={"2": 0.3, "3": 0.1})
    arms = [one.arm(each) for each in pseudonyms]
    assert abs(arms.count("2") / 20_000 - 0.3) < 0.015
    assert abs(arms.count("3") / 20_000 - 0.1) < 0.01
    other = msgspec.structs.replace(one, key="cd" * 32)
    assert 0.4 < np.mean([other.arm(each) == arm for each, arm in zip(pseudonyms, arms, strict=True)]) < 0.6


def test_areas_are_scikit_learns_and_their_variance_is_the_bootstraps():
    generator = np.random.default_rng(0)
    label, one, other = people(generator, 1500, 0.5, 1.0)
    areas, covariance = delong(label, np.array([one, other]))
    assert areas == pytest.approx([roc_auc_score(label, one), roc_auc_score(label, other)], abs=1e-12)
    draws = []
    for _ in range(200):
        rows = generator.integers(0, len(label), len(label))
        draws.append(roc_auc_score(label[rows], other[rows]) - roc_auc_score(label[rows], one[rows]))
    spread = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert np.var(draws) == pytest.approx(spread, rel=0.3)


def test_a_challenger_that_is_no_better_is_rarely_promoted_however_often_one_looks():
    """Twenty looks each; without the correction about one in five would be."""
    generator, alpha, runs, naive, promoted = np.random.default_rng(1), 0.05, 300, 0, 0
    for _ in range(runs):
        label, one, other = people(generator, 2000, 0.8, 0.8)
        ps, zs = [], []
        for count in range(100, 2001, 100):
            areas, covariance = delong(label[:count], np.array([one[:count], other[:count]]))
            variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
            ps.append(always_valid_p(areas[1] - areas[0], variance, 0.01))
            zs.append((areas[1] - areas[0]) / np.sqrt(variance))
        promoted += min(ps) <= alpha
        naive += max(zs) > 1.645
    assert promoted / runs <= alpha
    assert naive / runs > 2 * alpha


def test_a_better_challenger_is_found_and_the_interval_holds_the_truth():
    generator, found, held = np.random.default_rng(2), 0, 0
    label, one, other = people(generator, 400_000, 1.2, 0.4)
    truth = roc_auc_score(label, other) - roc_auc_score(label, one)
    for start in range(0, 60_000, 2000):
        rows = slice(start, start + 2000)
        areas, covariance = delong(label[rows], np.array([one[rows], other[rows]]))
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        found += always_valid_p(areas[1] - areas[0], variance, 0.01) <= 0.05
        low, high = interval(areas[1] - areas[0], variance, 0.01, 0.05)
        held += low <= truth <= high
    assert truth > 0.05
    assert found == 30
    assert held >= 29


def test_the_last_outcome_counts_and_one_that_is_taken_back_does_not(tmp_path):
    exposures = [
        Exposure(1.0, "a", "1", {"1": 0.1, "2": 0.2}, 3.0),
        Exposure(2.0, "b", "2", {"1": 0.3, "2": 0.4}, 5.0, ["2"]),
        Exposure(3.0, "c", "1", {"1": 0.5, "2": 0.6}, 4.0),
        Exposure(4.0, "a", "1", {"1": 0.9, "2": 0.9}, 4.0),
    ]
    outcomes = [
        Outcome(9.0, "a", "bad"),
        Outcome(5.0, "a", "good"),
        Outcome(6.0, "b", "good"),
        Outcome(7.0, "b", None),
        Outcome(8.0, "never-seen", "bad"),
        Outcome(8.0, "c", "good", "north"),
    ]
    place = write(Folder(tmp_path), experiment(), exposures, outcomes)
    with (place.parent / OUTCOMES).open("ab") as file:
        file.write(b'[10.0, "a", "go')  # cut off by a crash
    seen = observations(place, "1", "2")
    assert seen.label.tolist() == [1.0, 0.0]
    assert seen.champion.tolist() == [0.1, 0.5]
    assert seen.group == ("", "north")
    assert len(seen.all_champion) == 3
    assert seen.degraded == {"1": 0.0, "2": pytest.approx(1 / 3)}
    assert seen.milliseconds["2"].tolist() == [5.0]


def test_a_line_that_is_none_is_named(tmp_path):
    place = write(Folder(tmp_path), experiment(), [], [Outcome(1.0, "a", "bad")])
    with (place.parent / OUTCOMES).open("ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(RegistryError, match=r"outcomes.jsonl:2 cannot be read"):
        observations(place, "1", "2")


def observed(folder, one, noise, count=3000, **more):
    label, champion, challenger = people(np.random.default_rng(7), count, *noise)
    exposures = [
        Exposure(
            float(n), f"s{n}", one.arm(b"%d" % n), {"1": float(champion[n]), "2": float(challenger[n])}, 5.0, **more
        )
        for n in range(count)
    ]
    outcomes = [Outcome(float(n), f"s{n}", "bad" if label[n] else "good") for n in range(count)]
    write(folder, one, exposures, outcomes)


def test_a_clearly_better_challenger_is_promoted_and_a_worse_one_refused(tmp_path):
    better, worse = Folder(tmp_path / "better"), Folder(tmp_path / "worse")
    observed(better, experiment(), (1.5, 0.3))
    observed(worse, experiment(), (0.3, 1.5))
    (good,), (bad,) = judge(better, "e", NOW), judge(worse, "e", NOW)
    assert (good.decision, good.broken) == ("promote", [])
    assert good.p < 0.001
    assert good.low > 0
    assert bad.decision == "keep"
    assert "ranks worse" in bad.why


def test_too_few_outcomes_are_no_verdict_and_time_ends_the_wait(tmp_path):
    folder = Folder(tmp_path)
    observed(folder, experiment(), (1.5, 0.3), count=100)
    (one,) = judge(folder, "e", NOW)
    assert one.decision == "continue"
    assert "are needed" in one.why
    (late,) = judge(folder, "e", NOW + timedelta(days=90))
    assert late.decision == "keep"


def test_a_broken_guardrail_holds_a_better_challenger_back(tmp_path):
    folder = Folder(tmp_path)
    observed(folder, experiment(limits=Limits(degraded=0.01)), (1.5, 0.3), degraded=["2"])
    (one,) = judge(folder, "e", NOW)
    assert one.decision == "continue"
    assert one.broken == ["100.0% of its scores lack a party"]


def test_the_smallest_p_value_of_all_looks_is_remembered(tmp_path):
    folder = Folder(tmp_path)
    observed(folder, experiment(stop=StopRule(alpha=1e-9)), (1.5, 0.3))
    (first,) = judge(folder, "e", NOW)
    place = home(folder) / "e"
    half = (place.parent / OUTCOMES).read_bytes().splitlines(keepends=True)[:600]
    (place.parent / OUTCOMES).write_bytes(b"".join(half))
    (second,) = judge(folder, "e", NOW)
    assert second.p == first.p
    assert second.comparison.people == 600
