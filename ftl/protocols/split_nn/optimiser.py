"""Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), on plain arrays.

Torch has it too, but its optimisers import a compiler, six seconds of every start; and a passive party so needs no
torch at all. The state is plain arrays, so that a run goes on where it was lost.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""The paper's decay rates and epsilon."""


class Adam:
    """Steps some arrays in place.

    Args:
        parameters: float64 arrays.
        rate: of learning.
        decay: share of a parameter that each step takes off, times the rate.
        by_array: scale steps by the size of an array's gradient as a whole instead of number by number. Steps then keep
            the proportions of the gradient: what is mostly noise moves little.
    """

    def __init__(
        self, parameters: Sequence[NDArray[np.float64]], rate: float, decay: float = 0.0, *, by_array: bool = False
    ) -> None:
        self.parameters, self._rate, self._decay, self._by_array = list(parameters), rate, decay, by_array
        self._steps = 0
        self._means = [np.zeros_like(parameter) for parameter in parameters]
        self._squares = [np.zeros_like(parameter) for parameter in parameters]

    def step(self, gradients: Sequence[NDArray[np.float64]]) -> None:
        """One step against the gradients, one for each parameter."""
        self._steps += 1
        for parameter, gradient, mean, square in zip(
            self.parameters, gradients, self._means, self._squares, strict=True
        ):
            mean += (1 - FIRST) * (gradient - mean)
            size = gradient * gradient
            square += (1 - SECOND) * ((size.mean() if self._by_array else size) - square)
            size = np.sqrt(square / (1 - SECOND**self._steps)) + TINY
            parameter -= self._rate * (mean / (1 - FIRST**self._steps) / size + self._decay * parameter)

    def moments(self) -> list[NDArray[np.float64]]:
        """Copies of the state: steps taken, then means and squares of every parameter's gradients."""
        copies = [array.copy() for array in (*self._means, *self._squares)]
        return [np.array([self._steps], dtype=np.float64), *copies]

    def restore(self, moments: list[NDArray[np.float64]]) -> None:
        """Go on from what `moments` gave for the same parameters."""
        self._steps = int(moments[0][0])
        half = len(self.parameters)
        self._means = [array.copy() for array in moments[1 : 1 + half]]
        self._squares = [array.copy() for array in moments[1 + half :]]
