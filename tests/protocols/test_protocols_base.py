import numpy as np
import pytest

from ftl.errors import FeatureError
from ftl.protocols import fit_base
from ftl.protocols.base import out_of_fold
from ftl.protocols.trees import probability


def rows(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    region = random.integers(0, 3, count)
    values = np.column_stack([random.normal(size=count), np.full(count, np.nan), np.zeros(count), region])
    return values, (values[:, 0] + (region == 1) + random.normal(size=count) / 2 > 0.5).astype(float)


CODES = np.array([False, False, False, True])


def test_a_column_without_values_and_a_constant_one_do_no_harm() -> None:
    values, label = rows()
    base = fit_base(values, label, CODES, 0)
    assert {split.column for split in base.ensemble.splits} <= {0, 3}
    assert np.array_equal(base.probability(values), probability(base.log_odds(values)))


def test_the_same_seed_gives_the_same_base() -> None:
    values, label = rows()
    assert fit_base(values, label, CODES, 4) == fit_base(values, label, CODES, 4)


def test_out_of_fold_log_odds_do_not_know_their_own_label() -> None:
    values, _ = rows()
    label = np.random.default_rng(1).integers(0, 2, len(values)).astype(float)
    base = fit_base(values, label, CODES, 0)
    honest = out_of_fold(values, label, CODES, base, 0)
    seen = base.log_odds(values)
    assert np.corrcoef(seen, label)[0, 1] > 0.2
    assert np.corrcoef(honest, label)[0, 1] < 0.1


def test_too_few_of_a_class_are_refused() -> None:
    values, label = rows()
    label[:] = 0
    label[:9] = 1
    with pytest.raises(FeatureError, match="There are 9 labelled training rows of one class; at least 10"):
        fit_base(values, label, CODES, 0)
