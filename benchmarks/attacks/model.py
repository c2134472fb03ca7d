"""Attacks that need nothing but the finished model, and so fit every recipe."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.figures import Figure, Floats, auc, completed, either_way, learned, plain
from benchmarks.attacks.listening import SEED, Heard
from benchmarks.attacks.population import SHARED, targets
from ftl.protocols import SubScores


def on_the_model(heard: Heard, name: str) -> list[Figure]:
    """Label inference by completing the passive part, membership by confidence, columns by sub-scores."""
    return [_completion(heard, name), _membership(heard, name), _columns(heard, name)]


def sub_scores(heard: Heard) -> Floats:
    """What the telecom says of everybody when they are scored, as numbers, shape (n, k); leaves become bits."""
    frame = heard.frames[1]
    scores = heard.recipe.load(heard.outcomes[frame.party].part, {}).sub_scores(frame.values)
    return _numbers(scores)


def _numbers(scores: SubScores) -> Floats:
    blocks = [block for block in (scores.share, scores.hidden) if block is not None]
    for leaves in (scores.leaves, scores.own_leaves):
        if leaves is not None and leaves.shape[1]:
            bits = np.unpackbits(np.ascontiguousarray(leaves).view(np.uint8), axis=1)
            blocks.append(bits[:, bits.std(axis=0) > 0].astype(float))
    return np.concatenate([np.zeros((len(scores.known), 1)), *blocks], axis=1)


def _completion(heard: Heard, name: str) -> Figure:
    """The telecom fits a classifier on what its own part says, with a few labels that it knows (Fu et al. 2022)."""
    label, own = _labels(heard)[:SHARED], plain(heard.frames[1].values[:SHARED])
    said = sub_scores(heard)[:SHARED]
    guess = completed(own, label, SEED)
    with_part = max(completed(said, label, SEED), completed(np.column_stack([own, said]), label, SEED))
    return Figure(name, "label by model completion, 40 labels known", "telecom", guess, with_part)


def _membership(heard: Heard, name: str) -> Figure:
    """Who sees a person's answer and outcome takes the confident ones for training people (Yeom et al. 2018)."""
    label, chance = _labels(heard), heard.answers()
    right = np.where(label, chance, 1 - chance)
    member = np.arange(len(label)) < SHARED
    return Figure(name, "membership by confidence in the outcome", "reader of answers", 0.5, auc(member, right))


def _columns(heard: Heard, name: str) -> Figure:
    """The bank knows the telecom's columns for half of the people, and fits them on what is said at scoring."""
    bank = plain(heard.frames[0].values[:SHARED])
    known = np.column_stack([bank, _labels(heard)[:SHARED]])
    guess, told = reconstructed(heard, known, sub_scores(heard)[:SHARED])
    return Figure(name, "telecom's columns from sub-scores", "bank", guess, told)


def reconstructed(heard: Heard, known: Floats, said: Floats) -> tuple[float, float]:
    """Mean AUC over the telecom's columns by what the bank has itself, and by that with what it was told."""
    wanted = targets(heard.frames[1])[:SHARED]
    half = np.random.default_rng(SEED).permutation(SHARED) % 2 == 0
    views = (known, np.column_stack([known, said]))
    found = [[learned(view, column, half) for column in wanted.T] for view in views]
    alone = [[learned(said, column, half) for column in wanted.T]]
    best = np.maximum(np.array(found[1]), np.array(alone[0]))
    return float(np.mean(found[0])), float(best.mean())


def direct(name: str, attack: str, label: NDArray[np.bool_], on: Floats, off: Floats, switched: str) -> Figure:
    """A score of people, with the defence and without it, by an attacker who has no label."""
    from benchmarks.attacks.figures import chance

    return Figure(
        name, attack, "telecom", chance(label, on, SEED), either_way(label, on), either_way(label, off), switched
    )


def _labels(heard: Heard) -> NDArray[np.bool_]:
    label = heard.frames[0].label
    assert label is not None
    return np.asarray(label == 1)
