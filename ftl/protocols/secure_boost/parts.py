"""The model parts that a run leaves behind, and how they score. JSON; each stays at its own party.

The active party's part holds its own model and its own splits of the joint trees, a passive party's its splits with
their thresholds. None holds a leaf value of the joint trees (the Combiner does), nor anything of another party.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError
from ftl.protocols.recipe import Part, SubScores
from ftl.protocols.trees import Ensemble, Reach, Split


class ActiveRecord(msgspec.Struct, frozen=True, tag="secure_boost/active"):
    """The active party's part as stored.

    Attributes:
        columns: the p feature columns.
        own: its own model on them; None where the label has several classes.
        outputs: margins per person.
        trees: number of joint trees.
        splits: its splits in them.
    """

    columns: tuple[str, ...]
    own: Ensemble | None
    outputs: int
    trees: int
    splits: tuple[Split, ...]


class PassiveRecord(msgspec.Struct, frozen=True, tag="secure_boost/passive"):
    """A passive party's part as stored: its columns, the number of joint trees, and its splits in them."""

    columns: tuple[str, ...]
    trees: int
    splits: tuple[Split, ...]


def load(part: bytes, reasons: Mapping[str, str]) -> Part:
    """A part ready to score.

    Args:
        part: as stored.
        reasons: column to the code of the reason it stands for; columns without one give no reason.

    Raises:
        RegistryError: the bytes are no part of this recipe.
    """
    try:
        record = msgspec.json.decode(part, type=ActiveRecord | PassiveRecord)
    except msgspec.MsgspecError as exc:
        raise RegistryError(
            f"the model part is none of secure_boost: {exc}.", cure="Restore the node's model folder, or train again."
        ) from exc
    own = _OwnMargin(record) if isinstance(record, ActiveRecord) else None
    return SplitsPart(record.columns, record.splits, record.trees, reasons, own)


class _OwnMargin:
    """What the active party says beside its splits: its own margin, and nothing that the joint trees start from."""

    def __init__(self, record: ActiveRecord) -> None:
        self._outputs = record.outputs
        self._own = record.own.compile(len(record.columns)) if record.own else None

    def margin(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, shape (m,)."""
        return self._own.log_odds(values) if self._own else np.zeros(len(values))

    def share(self, people: int) -> NDArray[np.float64]:
        """float64, shape (m, outputs): nothing, since the joint trees start from the combiner's offsets."""
        return np.zeros((people, self._outputs))


class SplitsPart:
    """Splits of joint trees, and at the active party its own margin; see :class:`~ftl.protocols.Part`."""

    def __init__(
        self,
        columns: tuple[str, ...],
        splits: tuple[Split, ...],
        trees: int,
        reasons: Mapping[str, str],
        own: _OwnMargin | None,
    ) -> None:
        self.columns = columns
        self._reach = Reach(splits, len(columns), trees)
        self._own = own
        codes = dict.fromkeys(reasons[column] for column in columns if column in reasons)
        behind = {code: frozenset(j for j, c in enumerate(columns) if reasons.get(c) == code) for code in codes}
        using = {code: self._reach.trees_using(free) for code, free in behind.items()}
        self._behind = {code: (behind[code], trees) for code, trees in using.items() if len(trees)}

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people; `relaxed` is filled when `reasons` are asked for."""
        people = len(values)
        margin = np.zeros(people) if self._own is None else self._own.margin(values)
        relaxed = {
            code: (trees, self._reach.leaves(values, without=free)[:, trees])
            for code, (free, trees) in (self._behind.items() if reasons else ())
        }
        share = None if self._own is None else self._own.share(people)
        known = np.ones(people, dtype=bool)
        return SubScores(known, margin, self._reach.leaves(values), {}, relaxed, share)
