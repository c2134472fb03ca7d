"""A recipe: a named way to train, as one program per party, and the model parts it leaves behind.

A program sees its own :class:`~ftl.features.Frame` and a :class:`~ftl.protocols.Channel`, nothing else. Recipes are
found by name through the entry point group ``ftl.recipes``, so that another package can add one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

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


class Checkpoints(Protocol):
    """Where a program keeps its state between rounds, so that a run goes on after a node was lost."""

    def latest(self) -> tuple[int, bytes] | None:
        """The last round that *all* parties of the run have kept, and this party's state of it; None to begin."""
        ...

    def save(self, number: int, state: bytes) -> None:
        """Keep the state after round `number` at the node; it may hold keys. The one before is kept too."""
        ...


class NoCheckpoints:
    """Keeps nothing."""

    def latest(self) -> tuple[int, bytes] | None:
        """None: the run begins."""
        return None

    def save(self, number: int, state: bytes) -> None:
        """Forget it."""


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
        checkpoints: where the program keeps its state between rounds.
    """

    frame: Frame
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    active: str
    channel: Channel
    seed: int
    timeout: float
    report: Callable[[Step], None]
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)


class SubScores(msgspec.Struct, frozen=True):
    """One party's share of the answer for m people. Holds no identifier, no feature value, no threshold.

    A *margin* is what the model's link turns into its answer: log-odds of default, the number itself, or one number per
    class. What a recipe does not use is left out.

    Attributes:
        known: bool, shape (m,): whether the party has the person. The other arrays are 0 / all ones where it has not.
        log_odds: float64, shape (m,): the margin that the party would give alone (the active party's base); 0 where it
            has none.
        leaves: uint64, shape (m, trees): bit l is set where leaf l of the tree can still be reached as far as this
            party's columns say. Leaves are the AND over all parties.
        lost: reason code to float64, shape (m,): log-odds lost on that reason in the party's own additive part,
            against the best attainable value.
        relaxed: reason code to (tree numbers, uint64 of shape (m, len(tree numbers))): the leaves that could be
            reached if the columns behind that reason were free, for those trees that use them.
        share: float64, shape (m, outputs): what the party adds to the joint margin. Where it is left out, the active
            party adds `log_odds` and a passive party nothing.
        own_leaves: uint64, shape (m, own trees): leaves of the trees that this party's columns alone decide; see
            :class:`Alone`.
        hidden: float64, shape (m, width): what the party's network says to the top network.
    """

    known: NDArray[np.bool_]
    log_odds: NDArray[np.float64]
    leaves: NDArray[np.uint64]
    lost: dict[str, NDArray[np.float64]] = {}
    relaxed: dict[str, tuple[NDArray[np.int64], NDArray[np.uint64]]] = {}
    share: NDArray[np.float64] | None = None
    own_leaves: NDArray[np.uint64] | None = None
    hidden: NDArray[np.float64] | None = None


Link = Literal["logit", "identity", "softmax"]
"""From margin to answer: a probability of default, a number, or a probability per class."""

Activation = Literal["identity", "relu", "tanh", "sigmoid"]


class Alone(msgspec.Struct, frozen=True):
    """How a passive party's columns alone answer for a person whom the active party does not know.

    Attributes:
        offset: margin before the first tree.
        trees: per tree its leaf values, for the party's `own_leaves`.
    """

    offset: float
    trees: list[list[float]]


class Layer(msgspec.Struct, frozen=True):
    """A layer of the top network: activation(x @ weights + bias).

    Attributes:
        weights: inputs × outputs.
        bias: one per output.
        activation: of the outputs.
    """

    weights: list[list[float]]
    bias: list[float]
    activation: Activation = "identity"


class Combiner(msgspec.Struct, frozen=True):
    """What turns sub-scores into an answer; the only part of the model that the registry holds.

    The joint margin is the parties' shares + scale · trees + top network + offset.

    Attributes:
        trees: per tree its leaf values, in margin; at most 64 leaves. Tree t adds to output t modulo `outputs`.
        scale: learned factor on the sum of trees.
        offset: added to every margin when all parties know the person.
        parties: whose sub-scores the joint margin needs; empty when the run fell back to the active party alone.
        fell_back: why there is no joint model, or None.
        link: from margin to answer.
        outputs: margins per person: 1, or the number of classes.
        offsets: empty, or one per output, added like `offset`.
        network: the top network, on the parties' `hidden` side by side in the order of `parties`; its outputs add to
            the margin.
        alone: passive party to how it answers for people whom only it knows.
    """

    trees: list[list[float]]
    scale: float = 1.0
    offset: float = 0.0
    parties: list[str] = []
    fell_back: str | None = None
    link: Link = "logit"
    outputs: int = 1
    offsets: list[float] = []
    network: list[Layer] = []
    alone: dict[str, Alone] = {}


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
        combiner: active party only; None of a recipe that leaves a report and no model.
        baseline: active party only: float64, shape (len(test),), the answer by the active party alone, or None where
            the recipe fits no model of its own.
        probability: active party only: float64, shape (len(test),), the answer by the federated model: probability of
            default, or the number; shape (len(test), classes) for classes.
        alone: active party only: passive party to its answer alone for the people of the holdout, shape (len(test),).
        settings: the settings that were chosen, for the record.
        notes: sentences a reader of the report should know, for example that the run fell back.
        report: active party only: what a recipe without a model found, as plain JSON values; goes to the coordinator.
        private: file name to content for the party's own eyes; stays at the node.
    """

    part: bytes
    combiner: Combiner | None = None
    baseline: NDArray[np.float64] | None = None
    probability: NDArray[np.float64] | None = None
    alone: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    report: Mapping[str, Any] | None = None
    private: Mapping[str, bytes] = field(default_factory=dict)


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
