"""A party's network: one layer of sigmoids, whose gradients come out of the exchange and not out of its own data."""

import zlib

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from ftl.channel import decode, encode


class NetworkState(msgspec.Struct, frozen=True):
    """A network and its optimiser between two epochs, as kept at the node.

    Attributes:
        weights: float64, shape (inputs + 1, hidden), bias last.
        first, second: likewise, Adam's moments.
        steps: epochs done.
    """

    weights: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    steps: int


class Network:
    """sigmoid(x @ weights), x with a constant, trained by Adam (Kingma and Ba 2015) on given gradients.

    Args:
        inputs: columns of x, with the constant.
        hidden: outputs.
        learning_rate: of Adam.
        initial_scale: standard deviation of the weights at the start; the bias starts at 0.
        seed: of the run.
        party: whose it is, so that no two networks of a run start alike.
    """

    def __init__(
        self, inputs: int, hidden: int, learning_rate: float, initial_scale: float, seed: int, party: str
    ) -> None:
        random = np.random.default_rng([seed, zlib.crc32(party.encode())])
        start = random.normal(0.0, initial_scale, (inputs, hidden))
        start[-1] = 0.0
        self._weights = torch.nn.Parameter(torch.from_numpy(start))
        self._optimiser = torch.optim.Adam([self._weights], lr=learning_rate)

    @property
    def weights(self) -> NDArray[np.float64]:
        """float64, shape (inputs, hidden), bias last."""
        return np.array(self._weights.detach().numpy())

    def hidden(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Representations, float64, shape (m, hidden), of x of shape (m, inputs)."""
        with torch.no_grad():
            return np.asarray(torch.sigmoid(torch.from_numpy(x) @ self._weights).numpy())

    def step(self, gradient: NDArray[np.float64]) -> None:
        """One step of Adam; `gradient` has the shape of the weights."""
        self._weights.grad = torch.from_numpy(np.ascontiguousarray(gradient))
        self._optimiser.step()

    def save(self) -> bytes:
        """State, for a checkpoint."""
        state = self._optimiser.state[self._weights]
        first, second = (state[name].numpy() for name in ("exp_avg", "exp_avg_sq"))
        return encode(NetworkState(self.weights, first, second, int(state["step"].item())))

    def restore(self, saved: bytes, party: str) -> None:
        """Go on from a checkpoint of this party."""
        kept = decode(saved, NetworkState, sender=party, topic="checkpoint")
        with torch.no_grad():
            self._weights.copy_(torch.from_numpy(kept.weights))
        self._optimiser.state[self._weights] = {
            "step": torch.tensor(float(kept.steps)),
            "exp_avg": torch.from_numpy(kept.first),
            "exp_avg_sq": torch.from_numpy(kept.second),
        }


def slope(hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    """Derivative of the sigmoid by its input, from its output."""
    return hidden * (1.0 - hidden)
