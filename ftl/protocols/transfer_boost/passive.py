"""A passive party's program: sums encrypted gradients over its bins, and keeps the thresholds of its own splits."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import AdditiveScheme
from ftl.errors import ProtocolError
from ftl.features import BinEdges
from ftl.protocols.boosting import Candidates, Masks, Plan, Working, accept, join, mask_type, receive, send
from ftl.protocols.recipe import Outcome, Step, Task
from ftl.protocols.transfer_boost.messages import Kept
from ftl.protocols.transfer_boost.parts import PassiveRecord, load
from ftl.protocols.transfer_boost.settings import Settings
from ftl.protocols.transfer_boost.stages import renumbered
from ftl.protocols.trees import Split

STAGES = ("opinion", "label", "alone")


class Seen(msgspec.Struct):
    """A stage seen from here: the levels and number of its trees, and this party's splits of them."""

    depth: int = 0
    trees: int = 0
    splits: list[Split] = []


class State(msgspec.Struct):
    """What a passive party keeps when the active party's base is fitted and after every stage."""

    stages: list[Seen] = []


def run_passive(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Take part in a run as a passive party.

    Raises:
        ProtocolError: the active party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    _wait(task, "base")
    stages = _stages(task, settings, scheme)
    kept = receive(task, task.active, "kept", Kept)
    for numbers, stage in zip((kept.opinion, kept.label, kept.alone), stages, strict=True):
        _check(task, numbers, stage.trees)
    record = _record(task, kept, stages)
    part = msgspec.json.encode(record)
    if record.trees or record.own_trees:
        _answer(task, stages, part)
    return Outcome(part)


def _wait(task: Task, topic: str) -> None:
    """Wait until the active party says that its other work is done."""
    while not receive(task, task.active, topic, Working).done:
        pass


def _stages(task: Task, settings: Settings, scheme: AdditiveScheme) -> list[Seen]:
    """Opinion, label and alone; those that did not take place have no trees."""
    stages = _resumed(task)
    for name in STAGES[len(stages) :]:
        if name == "alone":
            _wait(task, name)
        accepted = accept(task, settings.schedule(len(task.train)).min_bucket)
        if accepted is None:
            break
        stages.append(_grow(task, *accepted, scheme))
        if name != "alone":  # the last stage is short, and is grown again
            task.checkpoints.save(1 + len(stages), encode(State(stages)))
    return [*stages, *(Seen() for _ in STAGES[len(stages) :])]


def _resumed(task: Task) -> list[Seen]:
    """The stages of the run that was broken off, if it was."""
    latest = task.checkpoints.latest()
    if latest is None:
        task.checkpoints.save(1, encode(State()))
        return []
    return decode(latest[1], State, sender=task.frame.party, topic="checkpoint").stages


def _grow(task: Task, plan: Plan, public: bytes, scheme: AdditiveScheme) -> Seen:
    """All rounds of a stage."""
    frame = task.frame
    edges = BinEdges.fit(frame.values, frame.categorical, plan.max_bins)
    candidates = Candidates(frame.values[task.train], edges, plan.min_bucket, frame.monotone)
    summing = join(task, plan, candidates, scheme, public)
    grown = Seen(plan.depth, splits=summing.splits)
    for number in range(plan.rounds if candidates.count else 0):
        if not summing.round(number):
            break
        grown.trees += plan.trees
        task.report(Step("train", number + 1, plan.rounds))
    return grown


def _check(task: Task, numbers: list[int], trees: int) -> None:
    if len(set(numbers)) != len(numbers) or not all(0 <= number < trees for number in numbers):
        raise ProtocolError(f"{task.active!r} keeps trees that were not grown, or one of them twice.")


def _record(task: Task, kept: Kept, stages: list[Seen]) -> PassiveRecord:
    """This party's splits of the trees that stay, under their numbers in the model."""
    opinion, label, alone = stages
    joint = renumbered(opinion.splits, kept.opinion)
    joint += renumbered(label.splits, kept.label, len(kept.opinion))
    own = renumbered(alone.splits, kept.alone)
    trees = len(kept.opinion) + len(kept.label)
    return PassiveRecord(task.frame.columns, trees, tuple(joint), len(kept.alone), tuple(own))


def _answer(task: Task, stages: list[Seen], part: bytes) -> None:
    """Say which leaves the people of the holdout can reach: of the joint trees, then of those of this party alone."""
    said = load(part, {}).sub_scores(task.frame.values[task.test])
    if said.leaves.shape[1]:
        _send_masks(task, said.leaves, stages[1].depth)
    if said.own_leaves is not None:
        _send_masks(task, said.own_leaves, stages[2].depth)
    task.report(Step("predict", 1, 1))


def _send_masks(task: Task, leaves: NDArray[np.uint64], depth: int) -> None:
    send(task, task.active, "masks", Masks(leaves.astype(mask_type(depth))))
