"""The report against a pooled clear computation, over real and clear ciphers, and who is told what."""

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from clear_cipher import ClearScheme
from feature_report_parties import REGIONS, Encrypted, Run, parties, run

from ftl.errors import ConsortiumError, FeatureError, ProtocolError, RegistryError
from ftl.features import Frame
from ftl.features.woe_table import WoeTable
from ftl.protocols.feature_report import RECIPE, Settings
from ftl.protocols.feature_report import active as active_program
from ftl.protocols.feature_report import passive as passive_program
from ftl.protocols.feature_report.columns import own_columns
from ftl.protocols.feature_report.messages import Merged, Sums, Verdict, Within
from ftl.protocols.feature_report.profile import Profile
from ftl.protocols.feature_report.settings import LEAST_OF_A_CLASS

SHARED = 500
OPEN = {"name_columns": True, "tell_partner_woe": True}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties(partners=("shop", "telecom"))


@pytest.fixture(scope="module")
def told(frames: list[Frame]) -> Run:
    return run(frames, SHARED, ClearScheme(), OPEN)


@pytest.fixture(scope="module")
def hidden(frames: list[Frame]) -> Run:
    return run(frames, SHARED, ClearScheme())


def tables(result: Run, party: str) -> dict[str, WoeTable]:
    found = msgspec.json.decode(result.outcomes[party].private["bins.json"], type=list[WoeTable])
    return {table.column: table for table in found}


def pooled(frames: list[Frame], settings: Settings) -> dict[tuple[str, str], Profile]:
    """Bins of all columns in one place, with the labels in the clear."""
    bad, profiles = frames[0].label[:SHARED], {}
    for frame in frames:
        for column in own_columns(frame, np.arange(SHARED), settings):
            codes = column.fine.codes(column.values[:SHARED])
            counts = np.bincount(codes, weights=bad).astype(int), np.bincount(codes)
            gaps = column.fine.own_missing
            profile = Profile.of(column.kind, *counts, column.trend, settings.rules(SHARED), gaps=gaps)
            profiles[frame.party, column.name] = profile
    return profiles


def members(frame: Frame, table: WoeTable) -> list[np.ndarray]:
    """Which shared people are in each bin, by what the table says and nothing else."""
    values = frame.values[:SHARED, frame.columns.index(table.column)]
    found = []
    for each in table.bins:
        inside = np.isnan(values) & each.missing
        if table.categorical:
            codes = [frame.categories[table.column].index(text) for text in each.categories]
            inside |= np.isin(values, codes)
        elif each.known:
            inside |= (values > (-np.inf if each.low is None else each.low)) & (
                values <= (np.inf if each.high is None else each.high)
            )
        found.append(inside)
    return found


def test_information_values_equal_those_of_the_pooled_rows_exactly(frames: list[Frame], told: Run) -> None:
    expected = pooled(frames, Settings())
    for line in told.report["columns"]:
        profile = expected[line["party"], line["column"]]
        assert line["information_value"] == profile.information_value
        assert (line["chance"], line["gain"]) == (profile.chance, profile.gain)
        assert (line["bins"], line["fine_bins"]) == (profile.bins, len(profile.bad))
    assert len(told.report["columns"]) == len(expected) == 16


def test_an_owners_bins_and_weights_are_those_of_its_people_and_the_labels(frames: list[Frame], told: Run) -> None:
    bad = frames[0].label[:SHARED] == 1
    for frame in frames:
        for table in tables(told, frame.party).values():
            inside = members(frame, table)
            assert np.sum(inside, axis=0).tolist() == [1] * SHARED
            value = 0.0
            for each, people in zip(table.bins, inside, strict=True):
                assert each.people == people.sum()
                bads, goods = (people & bad).sum(), (people & ~bad).sum()
                woe = np.log((max(goods, 0.5) / (~bad).sum()) / (max(bads, 0.5) / bad.sum()))
                value += (max(goods, 0.5) / (~bad).sum() - max(bads, 0.5) / bad.sum()) * woe
                if frame.party == "bank" or min(bads, goods) >= LEAST_OF_A_CLASS:
                    assert each.woe == pytest.approx(woe)
            exact = 1e-9 if frame.party == "bank" else 0.005
            assert table.information_value == pytest.approx(value if len(inside) > 1 else 0, abs=exact)


def pearson(frames: list[Frame], columns: list[tuple[str, str]]) -> np.ndarray:
    """Correlation of numeric columns in one place, the mean where missing."""
    stacked = []
    for party, column in columns:
        frame = next(frame for frame in frames if frame.party == party)
        values = frame.values[:SHARED, frame.columns.index(column)]
        stacked.append(np.where(np.isnan(values), np.nanmean(values), values))
    return np.corrcoef(np.array(stacked))


def test_correlations_of_all_parties_equal_pearsons_on_the_pooled_rows(frames: list[Frame], told: Run) -> None:
    found = msgspec.json.decode(told.outcomes["bank"].private["correlations.json"])
    numeric = [(party, column) for party, column in found["columns"] if column not in {"job", "region", "tailed"}]
    places = [found["columns"].index(list(each)) for each in numeric]
    expected = np.abs(pearson(frames, numeric)) - np.eye(len(numeric))
    seen = np.array(found["correlation"])[np.ix_(places, places)]
    assert np.abs(seen - expected).max() < 1e-5
    assert {party for party, _ in numeric} == {"bank", "shop", "telecom"}
    assert told.line("shop", "telling")["correlated_with"] == ["shop", "again"]
    assert told.line("telecom", "wealthy")["correlated_with"] == ["bank", "income"]


def test_inflation_equals_that_of_a_pooled_regression(frames: list[Frame]) -> None:
    numeric = []
    for frame in frames:
        kept = [j for j, name in enumerate(frame.columns) if name not in {"job", "region", "tailed"}]
        columns = tuple(frame.columns[j] for j in kept)
        numeric.append(replace(frame, columns=columns, values=frame.values[:, kept], categories={}))
    result = run(numeric, SHARED, ClearScheme(), OPEN)
    every = [(frame.party, column) for frame in numeric for column in frame.columns]
    expected = np.diag(np.linalg.inv(pearson(numeric, every)))
    for place, (party, column) in enumerate(every):
        assert result.line(party, column)["vif"] == pytest.approx(expected[place], rel=1e-4)
    assert expected.max() > 10


def test_encrypted_and_clear_runs_agree_exactly() -> None:
    frames = parties(people=300)
    clear, encrypted = (run(frames, 200, scheme, OPEN) for scheme in (ClearScheme(), Encrypted()))
    assert by_name(encrypted.report) == by_name(clear.report)
    for party in ("bank", "shop"):
        found, expected = tables(encrypted, party), tables(clear, party)
        for column, table in expected.items():
            assert replace_number(found[column]) == replace_number(table)


def by_name(report: Any) -> dict[tuple[str, str], Any]:
    """Lines by column; the last bits of variance inflation and correlation depend on the secret order of columns."""
    rounded = [
        {key: round(value, 9) if isinstance(value, float) else value for key, value in line.items()}
        for line in report["columns"]
    ]
    return {(line["party"], line["column"]): line for line in rounded}


def replace_number(table: WoeTable) -> WoeTable:
    return msgspec.structs.replace(table, number=0)


def test_by_default_a_partner_learns_no_weight_and_its_columns_stay_unnamed(frames: list[Frame], hidden: Run) -> None:
    seen = {line["column"] for line in hidden.report["columns"] if line["party"] == "shop"}
    assert seen == {f"#{number}" for number in range(1, 7)}
    for table in tables(hidden, "shop").values():
        assert all(each.woe is None and each.bad is None for each in table.bins)
        line = hidden.line("shop", f"#{table.number}")
        assert table.information_value == pytest.approx(line["information_value"], abs=0.011)
        assert table.selected == line["selected"]
        assert len(table.bins) == line["bins"]
        assert line["share_of_bad"] in {None, "monotone"}
    assert "telling_bin" in hidden.outcomes["shop"].private["derived.yaml"].decode()
    assert "telling_woe" not in hidden.outcomes["shop"].private["derived.yaml"].decode()
    assert all(each.woe is not None for table in tables(hidden, "bank").values() for each in table.bins)


def test_told_or_not_the_bins_and_the_report_are_the_same(told: Run, hidden: Run) -> None:
    lines = msgspec.json.decode(hidden.outcomes["bank"].private["columns.json"])["columns"]
    exact = {(line["party"], line["column"]): line["information_value"] for line in lines}
    for party in ("shop", "telecom"):
        for column, table in tables(hidden, party).items():
            line, other = hidden.line(party, f"#{table.number}"), told.line(party, column)
            assert [each.people for each in tables(told, party)[column].bins] == [each.people for each in table.bins]
            assert line["information_value"] == float(f"{other['information_value']:.1e}") != other["information_value"]
            assert exact[party, f"#{table.number}"] == other["information_value"]
            assert (line["selected"], line["reason"]) == (other["selected"], other["reason"])
            assert line["psi"] == table.stability == other["psi"]


def test_pictures_and_bins_are_for_the_owner_and_the_report_holds_neither(told: Run, frames: list[Frame]) -> None:
    assert {"bins.json", "derived.yaml", "bins-telling.svg", "bins-region.svg"} < set(told.outcomes["shop"].private)
    assert told.outcomes["shop"].report is None
    assert not {"bins-telling.svg"} & set(told.outcomes["bank"].private)
    edges = [each.high for table in tables(told, "shop").values() for each in table.bins if each.high is not None]
    text = msgspec.json.encode(told.report).decode()
    assert len(edges) > 10
    assert not any(repr(edge) in text for edge in edges)
    assert not any(region in text for region in REGIONS)


def test_useless_copied_and_inflated_columns_are_refused_with_their_reason(frames: list[Frame], told: Run) -> None:
    assert told.line("shop", "useless")["reason"] == "could be chance"
    assert told.line("shop", "wealthy")["reason"] == "correlated with a selected column of more information value"
    assert set(told.report["selected"]) == {"bank", "shop", "telecom"}
    assert "income" in told.report["selected"]["bank"]
    inflated = run(frames, SHARED, ClearScheme(), {**OPEN, "max_correlation": 1.0, "max_vif": 4.0, "max_chance": 1.0})
    reasons = {line["reason"] for line in inflated.report["columns"]}
    assert "determined by the other selected columns" in reasons
    assert all(line["vif_selected"] <= 4 for line in inflated.report["columns"] if line["selected"])
    strict = run(frames, SHARED, ClearScheme(), {**OPEN, "max_psi": 0.001, "min_iv": 0.3, "max_iv": 0.45})
    kinds = {line["reason"] for line in strict.report["columns"]}
    assert {"not stable", "information value too low"} <= kinds
    assert "information value too high, it may have seen the label" in kinds


def test_a_declared_direction_holds_although_the_active_party_does_not_see_it(frames: list[Frame]) -> None:
    declared = replace(frames[1], monotone=np.array([0, 0, 0, 0, 0, -1], dtype=np.int8))
    result = run([frames[0], declared], SHARED, ClearScheme(), {**OPEN, "monotone": "rising"})
    table = tables(result, "shop")["telling"]
    weights = [each.woe for each in table.bins if each.known]
    assert all(first > second for first, second in itertools.pairwise(weights))
    assert len(weights) > 2
    assert result.line("shop", "again")["bins"] < 3  # rises with bad people, was declared to fall


def test_without_merging_quantile_bins_stay_and_their_order_is_secret(frames: list[Frame]) -> None:
    result = run(frames, SHARED, ClearScheme(), {**OPEN, "monotone": "none", "bins": 5})
    expected = pooled(frames, Settings(monotone="none", bins=5))
    line = result.line("shop", "again")
    assert (line["bins"], line["fine_bins"], line["share_of_bad"]) == (5, 5, None)
    assert line["information_value"] == expected["shop", "again"].information_value


def test_ranks_or_no_correlation_on_request(frames: list[Frame]) -> None:
    ranked = run(frames[:2], SHARED, ClearScheme(), {**OPEN, "correlation": "spearman"})
    found = msgspec.json.decode(ranked.outcomes["bank"].private["correlations.json"])
    ranks = [
        np.argsort(np.argsort(frame.values[:SHARED, column])) for frame, column in ((frames[0], 0), (frames[1], 2))
    ]
    at = found["columns"].index(["bank", "income"]), found["columns"].index(["shop", "tailed"])
    assert found["correlation"][at[0]][at[1]] == pytest.approx(abs(np.corrcoef(ranks)[0, 1]), abs=1e-5)
    without = run(frames[:2], SHARED, ClearScheme(), {**OPEN, "correlation": "none"}, payloads=True)
    assert {line["vif"] for line in without.report["columns"]} == {None}
    assert "vectors" not in {message.topic for message in without.recording.messages}


def test_too_few_shared_people_leave_the_active_partys_columns_on_all_its_rows(frames: list[Frame]) -> None:
    result = run(frames, 60, ClearScheme())
    assert result.report["people"] == 560
    assert {line["party"] for line in result.report["columns"]} == {"bank"}
    assert result.outcomes["bank"].notes == (
        "Only columns of bank were looked at: 60 shared training people are fewer than 100.",
    )
    assert result.outcomes["shop"].private == {}
    one_class = np.where(np.arange(700) < SHARED, 0.0, frames[0].label)
    again = run([replace(frames[0], label=one_class), frames[1]], SHARED, ClearScheme())
    assert "fewer than 10 of one class" in again.outcomes["bank"].notes[0]


def test_a_constant_and_an_empty_column_are_reported_as_such(frames: list[Frame]) -> None:
    values = frames[1].values.copy()
    values[:, 0], values[:, 1] = 7.0, np.nan
    result = run([frames[0], replace(frames[1], values=values)], SHARED, ClearScheme(), OPEN)
    for column in ("telling", "useless"):
        line = result.line("shop", column)
        assert (line["information_value"], line["reason"]) == (0, "its people are all in one bin")
        assert (line["max_correlation"], line["vif"]) == (None, None)


def test_more_columns_than_people_can_bear_take_no_part_in_correlations(frames: list[Frame]) -> None:
    wide = np.random.default_rng(1).normal(size=(700, 51))
    shop = replace(frames[1], columns=tuple(f"c{j}" for j in range(51)), values=wide, categories={})
    result = run([frames[0], shop], SHARED, ClearScheme(), OPEN)
    assert {line["vif"] for line in result.report["columns"] if line["party"] == "shop"} == {None}
    assert result.line("bank", "income")["vif"] > 1


def test_the_key_holder_refuses_a_bin_of_too_few_people(frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passive_program, "own_columns", lambda f, t, s: own_columns(f, t, s.model_copy(update=SMALL)))
    with pytest.raises(ProtocolError, match=r"'shop' sent under 'sums' a bin of [12] people, fewer than the 20 agreed"):
        run(frames[:2], SHARED, ClearScheme())


SMALL = {"min_bucket": 1, "fine_bins": 100}


def lie(monkeypatch: pytest.MonkeyPatch, module: Any, kind: type, **changes: Any) -> None:
    """Let a party's messages of one kind be changed before they are sent."""
    honest = module.send

    def send(task, to, topic, message):
        if isinstance(message, kind):
            values = {key: change(getattr(message, key)) for key, change in changes.items()}
            message = msgspec.structs.replace(message, **values)
        honest(task, to, topic, message)

    monkeypatch.setattr(module, "send", send)


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        (Sums, {"bins": lambda bins: bins[:-1]}, "'shop' sent under 'sums' an array of shape"),
        (Sums, {"bins": lambda bins: bins * 0}, "'shop' sent under 'sums' columns without bins"),
        (Sums, {"bins": lambda bins: bins[::-1].copy()}, "'shop' sent under 'sums' sums that are not of everybody"),
        (Sums, {"kinds": lambda kinds: kinds + 3}, "'shop' sent under 'sums' an unknown kind"),
        (Sums, {"names": lambda _: ["x"] * 6}, "'shop' sent under 'sums' names that cannot be"),
        (Sums, {"ciphertexts": lambda _: b"[1]"}, "'shop' sent sums that cannot be read"),
        (Within, {"sizes": lambda sizes: sizes + 50}, "'shop' sent under 'within' .* vectors of 500 people"),
        (Within, {"correlation": lambda matrix: matrix * 2}, "'shop' sent under 'within' what is no correlation"),
    ],
)
def test_a_partners_nonsense_ends_the_run_with_its_name(frames, monkeypatch, kind, changes, match) -> None:
    lie(monkeypatch, passive_program, kind, **changes)
    with pytest.raises(ProtocolError, match=match):
        run(frames[:2], SHARED, ClearScheme())


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        (Merged, {"groups": lambda groups: groups[:-1]}, "'bank' sent under 'merged' bins of 5 columns"),
        (Merged, {"groups": lambda _: [[0] * 99] * 6}, "'bank' sent under 'merged' bins that cannot be merged so"),
        (Merged, {"woe": lambda _: [[0.5]] * 6}, "'bank' sent under 'merged' weights of evidence that fit no bins"),
        (Verdict, {"reasons": lambda reasons: reasons[:2]}, "'bank' sent under 'verdict' a verdict on"),
        (Verdict, {"reasons": lambda _: ["why not"] * 6}, "'bank' sent under 'verdict' what is not a Verdict"),
    ],
)
def test_the_active_partys_nonsense_ends_the_run_with_its_name(frames, monkeypatch, kind, changes, match) -> None:
    lie(monkeypatch, active_program, kind, **changes)
    with pytest.raises(ProtocolError, match=match):
        run(frames[:2], SHARED, ClearScheme())


def test_a_wrong_setting_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ConsortiumError, match=r"no setting 'min_buckets'.*Did you mean 'min_bucket'"):
        RECIPE.settings({"min_buckets": 30})
    with pytest.raises(ConsortiumError, match=r"'min_bucket' is 3: .* greater than or equal to 10"):
        RECIPE.settings({"min_bucket": 3})
    with pytest.raises(ConsortiumError, match="'monotone' is 'up'"):
        RECIPE.settings({"monotone": "up"})


def test_it_scores_nobody_and_wants_good_and_bad(frames: list[Frame], told: Run) -> None:
    assert told.outcomes["bank"].combiner is None
    with pytest.raises(RegistryError, match="leaves a report and no model"):
        RECIPE.load(told.outcomes["shop"].part, {})
    with pytest.raises(FeatureError, match="that of 'bank' is of kind 'number'"):
        run([replace(frames[0], kind="number"), frames[1]], SHARED, ClearScheme())
