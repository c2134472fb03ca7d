"""What the parties of `transfer_boost` say to each other besides the messages of the rounds."""

import msgspec


class Kept(msgspec.Struct, frozen=True):
    """Active to passive: numbers of the trees that stay in the model, in its order.

    Attributes:
        opinion: of the rounds that learn the active party's opinion.
        label: of the rounds that learn from labels.
        alone: of the rounds of this party's columns alone.
    """

    opinion: list[int] = []
    label: list[int] = []
    alone: list[int] = []
