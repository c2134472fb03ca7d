"""The active party's program: its own model first, then what the partners' columns add to it, then the holdout."""

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme
from ftl.protocols.boosting import Working, collect_masks, send
from ftl.protocols.combine import Combination
from ftl.protocols.recipe import Combiner, Outcome, Step, SubScores, Task
from ftl.protocols.transfer_boost.messages import Kept
from ftl.protocols.transfer_boost.parts import ActiveRecord, attainable, load
from ftl.protocols.transfer_boost.settings import Settings
from ftl.protocols.transfer_boost.start import begin, prepare
from ftl.protocols.transfer_boost.training import Result, train
from ftl.protocols.trees import probability


def run_active(task: Task, settings: Settings, scheme: AdditiveScheme) -> Outcome:
    """Train, score the holdout, and leave the active party's part.

    Raises:
        ProtocolError: a passive party sent something the protocol does not allow.
        ChannelTimeout: one sent nothing in time.
        FeatureError: too few labelled rows.
    """
    cipher = scheme.generate()
    prepare(task, settings, cipher)
    state = begin(task)
    for party in task.channel.peers:
        send(task, party, "base", Working(done=True))
    result = train(task, settings, cipher, state)
    for party in task.channel.peers:
        send(task, party, "kept", result.kept.get(party, Kept()))
    frame, combiner, overlap = task.frame, result.combiner, result.overlap
    record = ActiveRecord(frame.columns, state.ensemble, len(combiner.trees), result.splits, attainable(frame))
    if overlap is not None:
        record = structs.replace(record, factor=overlap.factor, overlap=overlap.trees)
    part = msgspec.json.encode(record)
    own = load(part, {}).sub_scores(frame.values[task.test])
    scores = {frame.party: own, **_of_partners(task, settings, result)}
    combination = Combination(combiner, frame.party)
    task.report(Step("predict", 1, 1))
    return Outcome(
        part=part,
        combiner=combiner,
        baseline=_answers(combiner, own.log_odds),
        probability=combination.answer(scores),
        alone={party: _answers(combiner, combination.own_margin(party, scores[party])) for party in combiner.alone},
        settings={**settings.model_dump(), **result.record, "base": state.settings},
        notes=result.notes,
    )


def _answers(combiner: Combiner, margin: NDArray[np.float64]) -> NDArray[np.float64]:
    return probability(margin) if combiner.link == "logit" else margin


def _of_partners(task: Task, settings: Settings, result: Result) -> dict[str, SubScores]:
    """What the partners say of the people of the holdout: first of the joint trees, then of their own."""
    depth = settings.schedule(len(task.train)).depth
    trees, scores = len(result.combiner.trees), dict[str, SubScores]()
    for party in result.kept:
        leaves = np.zeros((len(task.test), 0), dtype=np.uint64)
        if trees:
            leaves = collect_masks(task, party, trees, depth).leaves
        own = None
        if party in result.combiner.alone:
            own = collect_masks(task, party, len(result.combiner.alone[party].trees), settings.alone_depth).leaves
        known, nothing = np.ones(len(task.test), dtype=bool), np.zeros(len(task.test))
        scores[party] = SubScores(known, nothing, leaves, own_leaves=own)
    return scores
