"""How a consortium wants its people found: who learns the result, and whether lists are padded."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Result = Literal["both", "one", "order"]
"""Who learns which people are shared: see :class:`AlignmentSettings`."""


class AlignmentSettings(BaseModel):
    """Settings of an alignment; `result` must be equal at all parties, `pad` is each party's own.

    Attributes:
        result: ``both``: every party learns which of its people *all* parties know. ``one``: only the active party
            does; its list is then the one that is asked for, however long. ``order`` (two parties): nobody learns who
            is shared; both learn one secret order of the people that at least one of them knows, and which places in
            it are their own people's.
        pad: length that this party shows as that of its list, by people who do not exist. ``none``: as it is.
            ``power_of_two``: the next power of two. A number: that length, which must not be below the real one. They
            cost as much time as people who do; with ``order``, they have places in it too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result = "both"
    pad: Literal["none", "power_of_two"] | Annotated[int, Field(ge=1, le=1 << 28)] = "none"

    def padded(self, people: int) -> int:
        """The length that a list of `people` shows; below `people` when the setting is too small for it."""
        if self.pad == "none":
            return people
        return self.pad if isinstance(self.pad, int) else 1 << max(people - 1, 0).bit_length()
