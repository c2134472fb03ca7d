"""A recipe: a named way to train, as one program per party, and the model parts it leaves behind.

A program sees its own :class:`~ftl.features.Frame` and a :class:`~ftl.protocols.Channel`, nothing else. Recipes are
found by name through the entry point group ``ftl.recipes``, so that another package can add one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import Channel
from ftl.features import Frame


class Step(msgspec.Struct, frozen=True):
    """What a program says of its progress; holds no row and no identifier.

    Attributes:
        phase: ``collect`` … as in the run; here ``base``, ``train``, ``predict``.
        round: rounds finished in this phase.
        of: rounds expected at most; 0 when unknown.
        metrics: name to value, for example ``{"validation_auc": 0.77}``.
    """

    phase: str
    round: int = 0
    of: int = 0
    metrics: dict[str, float] = {}


@dataclass(frozen=True)
class Task:
    """What one party's program is given.

    Attributes:
        frame: all of the party's validated rows.
        train: int64, rows of `frame` for training that *all* parties know, in the common order: position i is the
            same person at every party.
        test: int64, likewise for the people of the holdout. Their labels may only be used to evaluate.
        active: name of the party with the label.
        channel: the way to the other parties.
        seed: every random choice that must agree between runs comes from it.
        timeout: seconds to wait for any one message.
        report: tells the coordinator of progress; cheap, may be called every round.
    """

    frame: Frame
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    active: str
    channel: Channel
    seed: int
    timeout: float
    report: Callable[[Step], None]


class SubScores(msgspec.Struct, frozen=True):
    """One party's share of the answer for m people. Holds no identifier, no feature value, no threshold.

    Attributes:
        known: bool, shape (m,): whether the party has the person. The other arrays are 0 / all ones where it has not.
        log_odds: float64, shape (m,): the party's own additive part (the active party's base), 0 at a passive party.
        leaves: uint64, shape (m, trees): bit l is set where leaf l of the tree can still be reached as far as this
            party's columns say. Leaves are the AND over all parties.
        lost: reason code to float64, shape (m,): log-odds lost on that reason in the party's own additive part,
            against the best attainable value.
        relaxed: reason code to (tree numbers, uint64 of shape (m, len(tree numbers))): the leaves that could be
            reached if the columns behind that reason were free, for those trees that use them.
    """

    known: NDArray[np.bool_]
    log_odds: NDArray[np.float64]
    leaves: NDArray[np.uint64]
    lost: dict[str, NDArray[np.float64]] = {}
    relaxed: dict[str, tuple[NDArray[np.int64], NDArray[np.uint64]]] = {}


class Combiner(msgspec.Struct, frozen=True):
    """What turns sub-scores into a probability; the only part of the model that the registry holds.

    Attributes:
        trees: per tree its leaf values, in log-odds; at most 64 leaves.
        scale: learned factor on the sum of trees.
        offset: added to the log-odds when all parties know the person.
        parties: whose sub-scores the trees need; empty when the run fell back to the active party alone.
        fell_back: why there are no trees, or None.
    """

    trees: list[list[float]]
    scale: float = 1.0
    offset: float = 0.0
    parties: list[str] = []
    fell_back: str | None = None


class Part(Protocol):
    """A party's loaded model part."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The p columns of the matrix that `sub_scores` takes, in order."""
        ...

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people.

        Args:
            values: float64, shape (m, p), encoded as in training (NaN missing, categories as codes).
            reasons: also fill `lost` and `relaxed`.

        Returns:
            arrays of m rows; `known` is all True.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """What a party's program returns to its own node.

    Attributes:
        part: the party's model part, serialised without pickle; stays at the node.
        combiner: active party only.
        baseline: active party only: float64, shape (len(test),), probability of default by the active party alone.
        probability: active party only: float64, shape (len(test),), probability by the federated model.
        settings: the settings that were chosen, for the record.
        notes: sentences a reader of the report should know, for example that the run fell back.
    """

    part: bytes
    combiner: Combiner | None = None
    baseline: NDArray[np.float64] | None = None
    probability: NDArray[np.float64] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Recipe(Protocol):
    """One way to train."""

    name: str

    def settings(self, given: Mapping[str, Any]) -> Any:
        """Check and freeze the settings; ConsortiumError names the wrong key and the nearest right one."""
        ...

    def run(self, task: Task, settings: Any) -> Outcome:
        """This party's program; the role follows from ``task.active == task.frame.party``."""
        ...

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Part:
        """A part that `run` returned; `reasons` maps a column to its reason code (columns without one give none)."""
        ...
