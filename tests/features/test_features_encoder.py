import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.errors import FeatureError
from ftl.features import MOST_CATEGORIES, BinEdges, Encoder


def table() -> pa.Table:
    return pa.table(
        {
            "amount": pa.array([1.5, None, float("inf"), -2.0]),
            "region": pa.array(["north", None, "south", "north"]),
            "owner": pa.array([True, False, None, True]),
            "grade": pa.array([3.0, 1.0, None, 3.0]),
            "since": pa.array([dt.date(1970, 1, 11), None, dt.date(1969, 12, 31), dt.date(1970, 1, 1)]),
            "seen": pa.array(
                [dt.datetime(1970, 1, 1, 0, 1, tzinfo=dt.UTC), None, None, None], pa.timestamp("ns", "UTC")
            ),
        }
    )


COLUMNS = ("amount", "region", "owner", "grade", "since", "seen")


def test_numbers_stay_and_categories_become_codes_in_the_order_of_their_texts() -> None:
    encoder = Encoder.fit(table(), COLUMNS, ["grade"])
    assert encoder.categories == {"region": ("north", "south"), "owner": ("false", "true"), "grade": ("1", "3")}
    nan = np.nan
    expected = [[1.5, 0, 1, 1, 10, 60], [nan, nan, 0, 0, nan, nan], [nan, 1, nan, nan, -1, nan], [-2, 0, 1, 1, 0, nan]]
    np.testing.assert_array_equal(encoder.transform(table()), np.array(expected))


def test_a_category_that_training_has_not_seen_is_missing() -> None:
    encoder = Encoder.fit(table(), ("region", "grade"), ["grade"])
    encoded = encoder.transform({"grade": [1, 2, 3], "region": ["south", "west", None]})
    np.testing.assert_array_equal(encoded, np.array([[1, 0], [np.nan, np.nan], [np.nan, 1]]))


def test_a_stored_encoder_encodes_the_same_and_one_row_as_in_a_batch() -> None:
    encoder = Encoder.fit(table(), COLUMNS, ["grade"])
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    batch = again.transform(table())
    for row in range(4):
        one = again.transform({name: [table().column(name)[row].as_py()] for name in COLUMNS})
        np.testing.assert_array_equal(one[0], batch[row])


def test_only_the_most_frequent_categories_are_kept() -> None:
    names = [f"c{number:03d}" for number in range(MOST_CATEGORIES + 5)]
    rare = pa.table({"code": [*names, *names[5:]]})
    encoder = Encoder.fit(rare, ["code"])
    assert encoder.categories["code"] == tuple(names[5:])
    assert np.isnan(encoder.transform(rare)[:5, 0]).all()


def test_what_cannot_be_encoded_is_named() -> None:
    encoder = Encoder.fit(table(), ("amount",))
    with pytest.raises(FeatureError, match=r"column 'amount' is not there .*There are: amuont"):
        encoder.transform({"amuont": [1]})
    with pytest.raises(FeatureError, match=r"column 'amount' holds a value that is not a number"):
        encoder.transform({"amount": ["many"]})
    with pytest.raises(FeatureError, match="the stored encoder is not readable"):
        Encoder.from_json(b"{}")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.integers(0, 3).map(float)), max_size=200),
    st.integers(2, 32),
)
def test_bins_keep_the_order_and_set_missing_apart(column: list[float], most: int) -> None:
    values = np.array(column)[:, None]
    edges = BinEdges.fit(values, np.zeros(1, dtype=bool), most)
    codes = edges.codes(values)[:, 0]
    known = ~np.isnan(values[:, 0])
    assert edges.counts[0] <= most + 1
    assert (codes[~known] == edges.counts[0] - 1).all()
    assert (codes[known] < edges.counts[0] - 1).all()
    order = np.argsort(values[known, 0])
    assert (np.diff(codes[known][order]) >= 0).all()
    assert (np.diff(edges.edges[0]) > 0).all()


def test_quantile_bins_are_about_equally_full() -> None:
    values = np.random.default_rng(0).lognormal(size=(10_000, 1))
    codes = BinEdges.fit(values, np.zeros(1, dtype=bool), 16).codes(values)[:, 0]
    assert np.bincount(codes).tolist() == pytest.approx([625] * 16, abs=2)


def test_a_category_is_its_own_bin() -> None:
    values = np.array([[0.0], [2.0], [np.nan], [1.0]])
    assert BinEdges.fit(values, np.ones(1, dtype=bool)).codes(values)[:, 0].tolist() == [0, 2, 3, 1]
