"""One small base model instead of a choice of three: these tests are about what grows on it."""

from collections.abc import Iterator

import pytest

from ftl.protocols import base


@pytest.fixture(autouse=True, scope="module")
def small_base() -> Iterator[None]:
    small = {"learning_rate": 0.1, "max_iter": 12, "max_leaf_nodes": 4, "l2_regularization": 1.0, "max_features": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CANDIDATES", (small,))
        yield
