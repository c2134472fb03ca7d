"""Who of the shared people trains and who is kept for calibration; both parties draw the same from the run's seed."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def split(train: Rows, calibration: int, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows kept out, each in the common order; drawn without regard to labels.

    Args:
        train: int64, rows of the shared training people.
        calibration: how many to keep out.
        seed: of the run.
    """
    kept = np.zeros(len(train), dtype=bool)
    kept[np.random.default_rng([seed, 1]).permutation(len(train))[:calibration]] = True
    return train[~kept], train[kept]
