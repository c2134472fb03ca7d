"""Attacks on recipes that grow trees on encrypted gradients: `transfer_boost` and `secure_boost`."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.figures import Figure, Floats, completed, plain
from benchmarks.attacks.listening import SEED, Heard, OpenScheme
from benchmarks.attacks.model import direct, on_the_model, reconstructed
from benchmarks.attacks.population import SHARED
from ftl.protocols.boosting import packing_for
from ftl.protocols.boosting.partition import bundles

KEY = "the telecom has the bank's secret key"


def on_trees(heard: Heard, scheme: OpenScheme, name: str, stages: tuple[str, ...] = ("",)) -> list[Figure]:
    """What either party can make of a recorded run.

    Args:
        heard: the run.
        scheme: with the key.
        name: of the recipe.
        stages: what its stages that grow trees learn, in their order.
    """
    label = heard.frames[0].label
    assert label is not None
    bad = label[:SHARED] == 1
    figures = [
        direct(name, f"label from gradients, first round{stage}", bad, *_gradients(heard, scheme, number), KEY)
        for number, stage in enumerate(stages)
    ]
    bits = _bits(heard, "bank", "divided")
    if bits.shape[1]:
        own = plain(heard.frames[1].values[:SHARED])
        guess = completed(own, bad, SEED)
        told = max(completed(np.column_stack([own, bits]), bad, SEED), completed(bits, bad, SEED))
        figures.append(Figure(name, "label from how nodes were divided, 40 labels known", "telecom", guess, told))
    known = np.column_stack([plain(heard.frames[0].values[:SHARED]), bad])
    guess, told = reconstructed(heard, known, _bits(heard, "telecom", "sides"))
    figures.append(Figure(name, "telecom's columns from sides of splits", "bank", guess, told))
    return [*figures, *on_the_model(heard, name)]


def _gradients(heard: Heard, scheme: OpenScheme, stage: int) -> tuple[Floats, Floats]:
    """Of every shared person, as numbers: a stage's first ciphertexts, and the gradients in them."""
    first = [content for topic, content in heard.said("bank", "gradients") if topic.startswith("round/0/")]
    plans = [content["plan"] for _, content in heard.said("bank", "start") if content["plan"]]
    data, together = first[stage]["ciphertexts"], int(plans[stage]["together"])
    trained = np.unpackbits(first[stage]["training"], axis=-1, count=SHARED).astype(bool)
    rows = np.argwhere([trained[run].any(axis=0) for run in bundles(len(trained), together)])[:, 1]
    clear = np.array([_mean_gradient(value, together) for value in scheme.opened(data, len(rows))])
    size = len(data) // len(rows)
    sealed = np.array([int.from_bytes(data[i * size : i * size + 6][-4:], "big") for i in range(len(rows))], float)
    return _by_person(rows, sealed), _by_person(rows, clear)


def _mean_gradient(plaintext: int, together: int) -> float:
    """Over the trees of a plaintext that the person trains."""
    packing = packing_for(SHARED)
    slots = [plaintext >> packing.bits * place & (1 << packing.bits) - 1 for place in range(together)]
    sums = packing.unpack(np.array([*slots, None], dtype=object)[:-1])
    return float(packing.real(sums.gradient).sum() / sums.count.sum())


def _by_person(rows: NDArray[np.int64], values: Floats) -> Floats:
    counts = np.bincount(rows, minlength=SHARED)
    return np.bincount(rows, weights=values, minlength=SHARED) / np.maximum(counts, 1)


def _bits(heard: Heard, sender: str, kind: str) -> Floats:
    """Who was said to go left, over all messages, shape (SHARED, bits); those that differ between people."""
    rows = [content["left"] for _, content in heard.said(sender, kind)]
    bits = np.unpackbits(np.concatenate(rows), axis=1, count=SHARED).T if rows else np.empty((SHARED, 0))
    return bits[:, bits.std(axis=0) > 0].astype(float) if bits.size else np.empty((SHARED, 0))
