"""The active party's plan of a run: opinion, labels, the blend of both, then every partner alone."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from ftl.crypto import SecretCipher
from ftl.features import BinEdges
from ftl.protocols.boosting import Candidates, Plan, Rules, SquaredError, Working, packing_for, send
from ftl.protocols.recipe import Alone, Combiner, Step, Task
from ftl.protocols.transfer_boost.blend import Opinion, fit_blend, fit_scale
from ftl.protocols.transfer_boost.messages import Kept
from ftl.protocols.transfer_boost.overlap import Overlap, fit_overlap
from ftl.protocols.transfer_boost.settings import Settings
from ftl.protocols.transfer_boost.stages import (
    Grown,
    Model,
    Stage,
    Target,
    ask,
    grow,
    keep,
    no_columns,
    renumbered,
    skip,
)
from ftl.protocols.transfer_boost.start import People, Start, State, trees_together
from ftl.protocols.transfer_boost.validation import Curve, draw_training
from ftl.protocols.trees import Split

OPINION_L2 = 2.0
"""Added to a leaf's number of people where the target is an opinion."""
NUMBER_L2 = 4.0
"""A person weighs 1 in squared error, and at most 1/4 in the logistic loss."""
LABEL_PEOPLE = 1000
"""With so many shared people, trees of a partner alone learn half from labels and half from the joint model."""


@dataclass(frozen=True)
class Result:
    """What training left.

    Attributes:
        combiner: for the registry.
        overlap: the active party's share of the joint margin; None where it stands alone.
        splits: the active party's own.
        kept: passive party to the trees that stay with it; only parties that offered a split.
        record: how it was arrived at.
        notes: for the reader of the report.
    """

    combiner: Combiner
    overlap: Overlap | None = None
    splits: tuple[Split, ...] = ()
    kept: dict[str, Kept] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def train(task: Task, settings: Settings, cipher: SecretCipher, state: State) -> Result:
    """Grow trees with all parties that have something to offer; or say why not.

    Raises:
        ProtocolError: a passive party sent something that cannot be right.
    """
    people = People.of(task, state.honest)
    if reason := people.hopeless(settings.min_shared):
        skip(task, task.channel.peers)
        return _fallen_back(task, people, reason)
    run = _Run(task, settings, people, state.start, cipher, dict(state.partners))
    opinion = Opinion.of(task, people, state.honest)
    if not state.stages:
        learned = run.opinion_trees(opinion)
        if not run.partners:
            skip(task, task.channel.peers)
            return _fallen_back(task, people, "no other party has a column that splits the shared people")
        state.partners = run.partners
        state.finished(task, learned)
    run.done = sum(len(stage.held_out) - 1 for stage in state.stages)
    if len(state.stages) == 1:
        state.finished(task, run.label_trees())
    joint = _blend(run, opinion, *state.stages)
    return _with_alone(run, joint) if settings.partner_only else _without_alone(run, joint)


def _fallen_back(task: Task, people: People, reason: str) -> Result:
    note = f"The run fell back to {task.frame.party} alone: {reason}."
    return Result(Combiner([], fell_back=reason, link=people.loss.link), record={"rounds_kept": 0}, notes=(note,))


@dataclass
class _Run:
    """One run with at least `min_shared` people.

    Attributes:
        task, settings, people, start: of the run.
        cipher: with the secret key.
        partners: passive party to its number of candidates, none of them 0.
        waiting: parties whose turn comes later, and who must hear that work is under way.
        done: rounds finished in all stages.
    """

    task: Task
    settings: Settings
    people: People
    start: Start
    cipher: SecretCipher
    partners: dict[str, int] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        self.shared = len(self.task.train)
        self.schedule = self.settings.schedule(self.shared)
        self.training = draw_training(self.shared, self.settings.folds, self.schedule.draws, self.task.seed)

    def opinion_trees(self, opinion: Opinion) -> Grown:
        """Trees of the partners' columns that learn what the active party thinks; also finds out who takes part."""
        target = Target(SquaredError(), opinion.target, self.people.weight, np.zeros(self.shared))
        plan = self._plan(self.settings.opinion_rounds, 1, self.settings.opinion_columns, len(self.training))
        self.partners = ask(self.task, plan, self.cipher, self.task.channel.peers)
        if not self.partners:
            return Grown()
        return self._grow(target, plan, OPINION_L2, self.partners, no_columns(self.shared), None)

    def label_trees(self) -> Grown:
        """Trees on top of the base's margin that learn from labels."""
        people = self.people
        target = Target(people.loss, people.label, people.weight, people.base)
        depth = self.schedule.depth
        plan = self._plan(self.schedule.rounds, depth, self.settings.columns, len(self.training))
        # A tree of one level on the active party's columns could only repeat what its base has learned.
        own = no_columns(self.shared) if depth == 1 else self._own_candidates()
        partners = ask(self.task, plan, self.cipher, self.task.channel.peers)
        return self._grow(target, plan, self._label_l2, partners, own, self.curve())

    def alone_trees(self, party: str, target: Target) -> Grown:
        """Trees of one partner's columns that start from nothing."""
        settings = self.settings
        plan = self._plan(settings.alone_rounds, settings.alone_depth, settings.alone_columns, settings.folds)
        partners = ask(self.task, plan, self.cipher, [party])
        own = no_columns(self.shared)
        return self._grow(target, plan, self._label_l2, partners, own, self.curve(), settings.alone_learning_rate)

    def curve(self, start: NDArray[np.float64] | None = None, grown: Grown | None = None) -> Curve:
        """What held-out people say of the rounds so far, from margins `start` on."""
        margins = [] if start is None or grown is None else [start + added for added in grown.held_out]
        return Curve(self.people.loss, self.people.label, self.people.weight, margins)

    @property
    def _label_l2(self) -> float:
        return self.settings.l2 * (1.0 if self.people.loss.link == "logit" else NUMBER_L2)

    def _plan(self, rounds: int, depth: int, columns: float, ensembles: int) -> Plan:
        bits = packing_for(self.shared).bits
        least = self.schedule.min_bucket
        together = min(ensembles, trees_together(self.cipher, self.shared)) if depth == 1 else 1
        bins = self.settings.max_bins
        return Plan(self.shared, ensembles, 1, rounds, depth, least, bins, bits, columns, together=together)

    def _grow(
        self,
        target: Target,
        plan: Plan,
        l2: float,
        partners: dict[str, int],
        own: Candidates,
        curve: Curve | None,
        learning_rate: float | None = None,
    ) -> Grown:
        settings = self.settings
        rate = learning_rate or settings.learning_rate
        rules = Rules(packing_for(self.shared), l2, plan.min_bucket, settings.min_gain)
        training = self.training[: plan.ensembles]
        stage = Stage(target, plan, rules, training, rate, settings.rows, own)
        return grow(self.task, stage, partners, self.cipher, curve, self._after)

    def _own_candidates(self) -> Candidates:
        """Candidates on the base's margin (as column p), and on the p own columns if the settings want them."""
        frame, honest = self.task.frame, self.start.honest
        values = np.column_stack([frame.values, honest])
        if self.settings.active_columns == "base":
            values[:, :-1] = np.nan
        edges = BinEdges.fit(values[~np.isnan(honest)], np.append(frame.categorical, [False]), self.settings.max_bins)
        monotone = None if frame.monotone is None else np.append(frame.monotone, np.int8(0)).astype(np.int8)
        return Candidates(values[self.task.train], edges, self.schedule.min_bucket, monotone)

    def _after(self, metrics: dict[str, float]) -> None:
        """Count a round, and tell those who should know."""
        self.done += 1
        alone = self.settings.alone_rounds * len(self.partners) if self.settings.partner_only else 0
        of = self.settings.opinion_rounds + self.schedule.rounds + alone
        self.task.report(Step("train", self.done, of, metrics))
        for party in self.waiting:
            send(self.task, party, "alone", Working(done=False))


@dataclass(frozen=True)
class _Joint:
    """The joint model, or why there is none, and its margins of the shared people by models that have not seen them."""

    result: Result
    margin: NDArray[np.float64]


def _blend(run: _Run, opinion: Opinion, learned: Grown, labels: Grown) -> _Joint:
    """Put base, opinion and label trees together; or fall back when held-out people gain nothing."""
    people, ensembles = run.people, len(run.training)
    curve = run.curve(people.base, labels)
    rounds = curve.kept()
    parts = (people.base, learned.held_out[-1], labels.held_out[rounds])
    trust = opinion.trust(parts[1])
    blend = fit_blend(people.loss, people.label, people.weight, parts, trust)
    margin = blend.margin(*parts)
    first = keep(learned, len(learned.leaves) if blend.opinion else 0, blend.opinion / ensembles)
    second = keep(labels, rounds * ensembles if blend.label else 0, blend.label / ensembles)
    if not first.numbers and not second.numbers:
        return _Joint(_fallen_back(run.task, people, "no split of another party's column helps"), people.base)
    if curve.hurts(people.base, margin):
        return _Joint(
            _fallen_back(run.task, people, "the trees did not help shared people whom they had not seen"), people.base
        )
    record = {
        "rounds_kept": rounds,
        "depth": run.schedule.depth,
        "min_bucket": run.schedule.min_bucket,
        "base_weight": blend.base,
        "opinion_weight": blend.opinion,
        "label_weight": blend.label,
    }
    added = blend.opinion * learned.seen[-1] + blend.label * labels.seen[rounds]
    overlap = fit_overlap(run.task, people, blend, added)
    constant = blend.intercept + overlap.offset
    return _Joint(_joint_result(run, constant, overlap, (first, second), labels.splits, record), margin)


def _joint_result(
    run: _Run,
    constant: float,
    overlap: Overlap,
    models: tuple[Model, Model],
    splits: list[Split],
    record: dict[str, Any],
) -> Result:
    first, second = models
    me, used = run.task.frame.party, first.owners | second.owners
    combiner = Combiner(
        first.leaves + second.leaves,
        offset=constant + first.constant + second.constant,
        parties=[me, *(party for party in run.partners if party in used)],
        link=run.people.loss.link,
    )
    own = tuple(renumbered(splits, second.numbers, len(first.numbers)))
    kept = {party: Kept(first.numbers, second.numbers) for party in run.partners}
    return Result(combiner, overlap, own, kept, record)


def _with_alone(run: _Run, joint: _Joint) -> Result:
    """Add trees of every partner's columns alone; those that tell held-out people nothing are left out."""
    result, people = joint.result, run.people
    trust = run.shared / (run.shared + LABEL_PEOPLE)
    label = trust * people.label + (1 - trust) * people.answer(joint.margin)
    start = np.full(run.shared, float(people.loss.start(label, people.weight)[0]))
    target = Target(people.loss, label, people.weight, start)
    alone, kept, notes = dict[str, Alone](), dict(result.kept), list(result.notes)
    run.waiting = list(run.task.channel.peers)
    for party in run.task.channel.peers:
        run.waiting.remove(party)
        send(run.task, party, "alone", Working(done=True))
        if party not in run.partners:
            skip(run.task, [party])
            continue
        model = _alone_model(run, run.alone_trees(party, target), start)
        if model is None:
            notes.append(f"{party}'s columns alone tell nothing of people whom {run.task.frame.party} does not know.")
        else:
            alone[party] = Alone(float(start[0]) + model.constant, model.leaves)
            kept[party] = structs.replace(kept.get(party, Kept()), alone=model.numbers)
    return replace(result, combiner=structs.replace(result.combiner, alone=alone), kept=kept, notes=tuple(notes))


def _alone_model(run: _Run, grown: Grown, start: NDArray[np.float64]) -> Model | None:
    """The rounds worth keeping, calibrated on held-out people; None where they gain nothing."""
    people, curve = run.people, run.curve(start, grown)
    rounds = curve.kept()
    added = grown.held_out[rounds]
    scale = fit_scale(people.loss, people.label, people.weight, start, added)
    if not rounds or not curve.helps(start, start + scale * added):
        return None
    return keep(grown, rounds * run.settings.folds, scale / run.settings.folds)


def _without_alone(run: _Run, joint: _Joint) -> Result:
    for party in run.task.channel.peers:
        send(run.task, party, "alone", Working(done=True))
    skip(run.task, run.task.channel.peers)
    return joint.result
