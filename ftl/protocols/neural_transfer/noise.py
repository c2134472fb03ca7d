"""Noise on released gradients, from a generator that the other party cannot guess."""

import secrets

import numpy as np
from numpy.typing import NDArray


class Noise:
    """Gaussian noise.

    Args:
        deviation: standard deviation; 0 for none.
    """

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation
        self._random = np.random.Generator(np.random.Philox(secrets.randbits(128)))

    def draw(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Numbers to add."""
        if not self.deviation:
            return np.zeros(shape)
        return np.asarray(self._random.normal(0.0, self.deviation, shape))
