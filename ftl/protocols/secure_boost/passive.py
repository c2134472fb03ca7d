"""A passive party's program: sums encrypted gradients over its bins, and keeps the thresholds of its own splits."""

import msgspec

from ftl.channel import decode, encode
from ftl.crypto import AdditiveScheme
from ftl.errors import ProtocolError
from ftl.features import BinEdges
from ftl.protocols.boosting import Candidates, Kept, Masks, Plan, Working, accept, join, mask_type, receive, send
from ftl.protocols.recipe import Outcome, Step, Task
from ftl.protocols.secure_boost.parts import PassiveRecord, load
from ftl.protocols.secure_boost.settings import Settings
from ftl.protocols.trees import Split


class State(msgspec.Struct, frozen=True):
    """What a passive party keeps between rounds: its splits of all trees so far."""

    splits: list[Split]


def run_passive(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Take part in a run as a passive party.

    Raises:
        ProtocolError: the active party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    while not receive(task, task.active, "base", Working).done:
        pass
    accepted = accept(task, settings.min_bucket)
    splits = _grow(task, *accepted, scheme) if accepted else []
    kept = receive(task, task.active, "kept", Kept).trees
    part = msgspec.json.encode(PassiveRecord(task.frame.columns, kept, tuple(s for s in splits if s.tree < kept)))
    if accepted and kept:
        leaves = load(part, {}).sub_scores(task.frame.values[task.test]).leaves
        send(task, task.active, "masks", Masks(leaves.astype(mask_type(accepted[0].depth))))
        task.report(Step("predict", 1, 1))
    return Outcome(part)


def _grow(task: Task, plan: Plan, public: bytes, scheme: AdditiveScheme) -> list[Split]:
    """All rounds; returns this party's splits."""
    frame = task.frame
    edges = BinEdges.fit(frame.values, frame.categorical, plan.max_bins)
    candidates = Candidates(frame.values[task.train], edges, plan.min_bucket, frame.monotone)
    summing = join(task, plan, candidates, scheme, public)
    summing.splits += _resumed(task, plan.first)
    for number in range(plan.first, plan.rounds if candidates.count else plan.first):
        if not summing.round(number):
            break
        task.checkpoints.save(number + 1, encode(State(summing.splits)))
        task.report(Step("train", number + 1, plan.rounds))
    return summing.splits


def _resumed(task: Task, first: int) -> list[Split]:
    """This party's splits before round `first`.

    Raises:
        ProtocolError: the active party goes on from a round that this party has not kept.
    """
    latest = task.checkpoints.latest()
    number = 0 if latest is None else latest[0]
    if number != first:
        raise ProtocolError(
            f"{task.active!r} goes on from round {first}, {task.frame.party!r} has kept round {number}.",
            cure="Start the run anew.",
        )
    return [] if latest is None else decode(latest[1], State, sender=task.frame.party, topic="checkpoint").splits
