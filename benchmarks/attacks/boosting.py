"""Attacks on recipes that grow trees on encrypted gradients: `transfer_boost` and `secure_boost`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.figures import Figure, Floats, completed, plain
from benchmarks.attacks.listening import SEED, Heard, OpenScheme
from benchmarks.attacks.model import direct, on_the_model, reconstructed
from benchmarks.attacks.population import SHARED

KEY = "the telecom has the bank's secret key"


def on_trees(heard: Heard, scheme: OpenScheme, name: str) -> list[Figure]:
    """What either party can make of a recorded run."""
    label = heard.frames[0].label
    assert label is not None
    bad = label[:SHARED] == 1
    sealed, opened = _gradients(heard, scheme)
    figures = [direct(name, "label from gradients, first round", bad, sealed, opened, KEY)]
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


def _gradients(heard: Heard, scheme: OpenScheme) -> tuple[Floats, Floats]:
    """Of every shared person, as numbers: the first round's ciphertexts, and what is in them."""
    _, content = next(heard.said("bank", "gradients"))
    data = content["ciphertexts"]
    rows = _trained(content)
    opened = np.array(scheme.opened(data, len(rows)), dtype=object)
    top = max(int(value).bit_length() for value in opened) - 50
    clear = np.array([float(int(value) >> max(top, 0)) for value in opened])
    size = len(data) // len(rows)
    sealed = np.array([int.from_bytes(data[i * size : i * size + 6][-4:], "big") for i in range(len(rows))], float)
    return _by_person(rows, sealed), _by_person(rows, clear)


def _trained(content: dict[str, Any]) -> NDArray[np.int64]:
    """Shared person of each ciphertext."""
    bits = np.unpackbits(content["training"], axis=-1, count=SHARED).astype(bool)
    return np.argwhere(bits)[:, 1]


def _by_person(rows: NDArray[np.int64], values: Floats) -> Floats:
    counts = np.bincount(rows, minlength=SHARED)
    return np.bincount(rows, weights=values, minlength=SHARED) / np.maximum(counts, 1)


def _bits(heard: Heard, sender: str, kind: str) -> Floats:
    """Who was said to go left, over all messages, shape (SHARED, bits); those that differ between people."""
    rows = [content["left"] for _, content in heard.said(sender, kind)]
    bits = np.unpackbits(np.concatenate(rows), axis=1, count=SHARED).T if rows else np.empty((SHARED, 0))
    return bits[:, bits.std(axis=0) > 0].astype(float) if bits.size else np.empty((SHARED, 0))
