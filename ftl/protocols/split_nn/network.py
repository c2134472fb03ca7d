"""The active party's network: what it makes of its own columns, and the layers above all parties' vectors. Torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.recipe import Layer
from ftl.protocols.split_nn.optimiser import Adam
from ftl.protocols.split_nn.settings import Settings
from ftl.protocols.split_nn.start import Target

SMALL = 0.3
"""Factor on the last layer's first weights, so that training begins near the base's margin."""


@dataclass(frozen=True)
class Own:
    """What the active party brings in for the shared people.

    Attributes:
        said: float64, shape (shared, 0 or 1): the base's standardised margin.
        codes: int64, shape (shared, columns): buckets of its columns; no column where only the base enters.
        shares: float64, shape (buckets,): how many of its people are in each bucket, over their number.
    """

    said: NDArray[np.float64]
    codes: NDArray[np.int64]
    shares: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Numbers that enter the network, besides the vector of its columns."""
        return int(self.said.shape[1])


class Upper:
    """The trainable network; in float64, so that a repeated run differs in no digit.

    Args:
        own: of the shared people.
        target: what to learn.
        inputs: numbers that the passive parties' vectors have together.
        settings: of the run.
        seed: of the first weights.
    """

    def __init__(self, own: Own, target: Target, inputs: int, settings: Settings, seed: int) -> None:
        import torch

        self.own, self.target, self.settings = own, target, settings
        outputs = target.before.shape[1]
        own_width = settings.width if own.codes.shape[1] else 0
        draw = np.random.default_rng([seed, 5])
        shapes = [(own.width + own_width + inputs, settings.hidden), (settings.hidden, outputs)]
        scales = [1 / np.sqrt(shapes[0][0]), SMALL / np.sqrt(settings.hidden)]
        arrays = [draw.uniform(-scale, scale, shape) for scale, shape in zip(scales, shapes, strict=True)]
        arrays += [draw.uniform(-scales[0], scales[0], settings.hidden), np.zeros(outputs)]
        if own_width:
            arrays.append(draw.normal(size=(len(own.shares), own_width)) * SMALL / np.sqrt(own.codes.shape[1]))
        # The tensors look at the arrays, which the optimiser changes in place.
        self.parameters = [torch.from_numpy(array).requires_grad_() for array in arrays]
        self._optimiser = Adam(arrays, settings.learning_rate, settings.l2)

    def fit(self, people: NDArray[np.int64], vectors: NDArray[np.float64], draw: np.random.Generator) -> None:
        """Pass over a batch `local_epochs` times in mini-batches.

        Args:
            people: int64, shape (m,): positions of the batch's shared people.
            vectors: float64, shape (m, inputs): what the passive parties released for them.
            draw: of the order.
        """
        import torch

        for _ in range(self.settings.local_epochs):
            order = draw.permutation(len(people))
            for part in np.array_split(order, max(1, len(order) // self.settings.minibatch)):
                loss = self._losses(people[part], self._tensor(vectors[part])).mean()
                self._optimiser.step([gradient.numpy() for gradient in torch.autograd.grad(loss, self.parameters)])

    def gradients(self, people: NDArray[np.int64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of every person's loss by its own vectors, float64, shape (m, inputs)."""
        import torch

        given = self._tensor(vectors).requires_grad_()
        (gradient,) = torch.autograd.grad(self._losses(people, given).sum(), given)
        return np.asarray(gradient.numpy())

    def margins(self, people: NDArray[np.int64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint margins, float64, shape (m, outputs), in units of the target."""
        return np.asarray(self._margins(people, self._tensor(vectors)).detach().numpy())

    def loss(self, people: NDArray[np.int64], margins: NDArray[np.float64]) -> float:
        """Weighted mean loss of these people at these margins."""
        return float(self._weighted(people, self._tensor(margins)).sum() / self.target.weight[people].sum())

    def layers(self, arrays: list[NDArray[np.float64]]) -> list[Layer]:
        """The upper network as the Combiner holds it; its outputs in units of the label."""
        spread = self.target.spread
        return [
            Layer(arrays[0].tolist(), arrays[2].tolist(), "relu"),
            Layer((arrays[1] * spread).tolist(), (arrays[3] * spread).tolist()),
        ]

    def arrays(self) -> list[NDArray[np.float64]]:
        """Copies of all parameters: two weights, two biases and, where it has one, the table of its own columns."""
        return [array.copy() for array in self._optimiser.parameters]

    def moments(self) -> list[NDArray[np.float64]]:
        """State of the optimiser."""
        return self._optimiser.moments()

    def restore(self, arrays: list[NDArray[np.float64]], state: list[NDArray[np.float64]]) -> None:
        """Go on from what `arrays` and `moments` gave."""
        for parameter, array in zip(self._optimiser.parameters, arrays, strict=True):
            parameter[...] = array
        self._optimiser.restore(state)

    def _losses(self, people: NDArray[np.int64], vectors: Any) -> Any:
        return self._weighted(people, self._margins(people, vectors))

    def _weighted(self, people: NDArray[np.int64], margins: Any) -> Any:
        """Every person's loss times weight: logistic, half squared, or cross-entropy."""
        import torch
        from torch.nn import functional

        label, weight = self._tensor(self.target.label[people]), self._tensor(self.target.weight[people])
        if self.target.kind == "classes":
            losses = functional.cross_entropy(margins, label.to(torch.int64), reduction="none")
        elif self.target.kind == "binary":
            losses = functional.binary_cross_entropy_with_logits(margins[:, 0], label, reduction="none")
        else:
            losses = (margins[:, 0] - label) ** 2 / 2
        return losses * weight

    def _margins(self, people: NDArray[np.int64], vectors: Any) -> Any:
        import torch

        first, last, first_bias, last_bias, *table = self.parameters
        own = [self._tensor(self.own.said[people])]
        if table:
            summed = table[0][torch.tensor(self.own.codes[people])].sum(dim=1)
            centred = summed - self._tensor(self.own.shares) @ table[0]
            own.append(centred / torch.clamp(centred.norm(dim=1, keepdim=True), min=1.0))
        above = torch.relu(torch.cat([*own, vectors], dim=1) @ first + first_bias)
        return self._tensor(self.target.before[people]) + above @ last + last_bias

    @staticmethod
    def _tensor(array: NDArray[np.float64]) -> Any:
        import torch

        return torch.tensor(array, dtype=torch.float64)
