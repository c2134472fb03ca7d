"""Attacks on recipes that release a party's own gradients as sums: `hetero_logistic` and `neural_transfer`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.figures import Figure, Floats, chance, either_way
from benchmarks.attacks.listening import SEED, Heard, carry_out
from benchmarks.attacks.model import direct, on_the_model, reconstructed
from benchmarks.attacks.population import SHARED, population
from ftl.features import Frame
from ftl.protocols.hetero_linear import LOGISTIC
from ftl.protocols.hetero_linear.fitting import Fit
from ftl.protocols.neural_transfer import RECIPE
from ftl.protocols.neural_transfer.encrypted import EncryptedActive, EncryptedPassive
from ftl.protocols.neural_transfer.gradients import ActiveTerms, PassiveTerms

KEYS = "the telecom has the bank's secret key and sees every person's residual"
EPOCHS_STUDIED, TURNS = 6, 12
_RIDGE = 1e-6


@contextmanager
def learned_by(kind: type, method: str) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """Keep what a method of a party's program was given, itself included, and what it returned: its party sees both."""
    kept: list[tuple[tuple[Any, ...], Any]] = []
    inner: Callable[..., Any] = getattr(kind, method)

    def listening(*given: Any) -> Any:
        kept.append((given, inner(*given)))
        return kept[-1][1]

    with patch.object(kind, method, listening):
        yield kept


def on_hetero_logistic(seed: int, *, finished: bool = True) -> list[Figure]:
    """Labels from the telecom's own gradients, and its columns from the bank's.

    Args:
        seed: of the people.
        finished: whether the finished model is attacked too.
    """
    frames = population(seed)
    with learned_by(Fit, "collect") as kept:
        heard = carry_out(LOGISTIC, frames, {"own_model": "linear"})
    by_party: dict[str, list[tuple[Fit, Floats]]] = {"bank": [], "telecom": []}
    for (fit, *_), gradient in kept:
        by_party[fit.exchange.me].append((fit, gradient))
    bad = _bad(frames)
    name = "hetero_logistic"
    return [
        *_labels(name, heard, bad, by_party["telecom"]),
        _columns(name, heard, bad, by_party["bank"]),
        *(on_the_model(heard, name) if finished else []),
    ]


def _labels(name: str, heard: Heard, bad: NDArray[np.bool_], said: list[tuple[Fit, Floats]]) -> list[Figure]:
    """Residuals that explain the first gradient with least squares: of those who trained, and of strangers."""
    fit, gradient = said[0]
    ways = np.linalg.lstsq(fit.matrix.T @ fit.matrix / SHARED, -gradient, rcond=1e-8)[0]
    part = LOGISTIC.load(heard.outcomes["telecom"].part, {})
    design = part._share.design  # type: ignore[attr-defined]  # noqa: SLF001 - the telecom's own
    guessed = design.matrix(heard.frames[1].values) @ ways
    residual = bad - heard.answers()
    trained, strangers = np.arange(SHARED), np.arange(SHARED, len(bad))
    return [
        direct(name, "label who trained, from gradients", bad[trained], guessed[trained], residual[trained], KEYS),
        Figure(
            name,
            "label of strangers, from gradients",
            "telecom",
            chance(bad[strangers], guessed[strangers], SEED),
            either_way(bad[strangers], guessed[strangers]),
        ),
    ]


def _columns(name: str, heard: Heard, bad: NDArray[np.bool_], said: list[tuple[Fit, Floats]]) -> Figure:
    """What the bank's gradients say of the telecom's part of the margins, for half of the true values known."""
    matrix = said[0][0].matrix
    ways = [np.linalg.lstsq(matrix.T @ matrix / SHARED, gradient, rcond=1e-8)[0] for _, gradient in said]
    known = np.column_stack([heard.frames[0].values[:SHARED], bad[:SHARED]])
    guess, told = reconstructed(heard, known, matrix @ np.array(ways).T)
    return Figure(name, "telecom's columns from the bank's gradients", "bank", guess, told)


def on_neural_transfer(seed: int) -> list[Figure]:
    """Labels from the telecom's own weight gradients, with the defaults (no noise) and with noise."""
    name, frames = "neural_transfer", population(seed)
    heard, quiet, truth = _trained(frames, {})
    _, noisy, _ = _trained(frames, {"noise": 0.1, "epochs": EPOCHS_STUDIED})
    attack = "label who trained, from weight gradients"
    person = _weights_of(truth[0], quiet[0][0])
    figures = [
        direct(name, attack, truth[0].sign > 0, _solved(quiet), person, KEYS),
        direct(name, f"{attack}, `noise: 0.1`", truth[0].sign > 0, _solved(noisy), person, KEYS),
    ]
    return [*figures, *on_the_model(heard, name)]


Seen = list[tuple[PassiveTerms, Floats]]


def _trained(frames: list[Frame], given: dict[str, Any]) -> tuple[Heard, Seen, list[ActiveTerms]]:
    """A run, what the telecom knew and learned in its epochs, and what the bank knew."""
    with learned_by(EncryptedPassive, "gradient") as told, learned_by(EncryptedActive, "gradient") as of_bank:
        heard = carry_out(RECIPE, frames, given)
    seen = [(terms, gradient) for (_, _, terms), gradient in told[:EPOCHS_STUDIED]]
    return heard, seen, [terms for (_, _, terms), _ in of_bank[:1]]


def _weights_of(bank: ActiveTerms, telecom: PassiveTerms) -> Floats:
    """The number w of each person that carries the label; see :mod:`ftl.protocols.neural_transfer.gradients`."""
    return np.asarray(telecom.hidden @ bank.centre / 4 - bank.sign / 2)


def _solved(seen: Seen) -> Floats:
    """The numbers w that explain each epoch's gradients, up to scale; mean over the epochs, shape (n,)."""
    found = []
    for terms, gradient in seen:
        weight = _alternate(terms, gradient)
        weight = (weight - weight.mean()) / weight.std()
        found.append(weight if not found or weight @ found[0] >= 0 else -weight)
    return np.asarray(np.mean(found, axis=0))


def _alternate(terms: PassiveTerms, gradient: Floats) -> Floats:
    """Least squares for w and for phi in turns: gradient[k, l] = phi[l] · sum over n of x[n, k] slope[n, l] w[n]."""
    parts = np.einsum("nk,nl->lkn", terms.x, terms.slope)
    centre = np.sign(gradient.sum(axis=0))
    for _ in range(TURNS):
        rows = (centre[:, None, None] * parts).reshape(-1, parts.shape[2])
        inner = rows @ rows.T
        inner += _RIDGE * np.trace(inner) / len(inner) * np.eye(len(inner))
        weight = rows.T @ np.linalg.solve(inner, gradient.T.ravel())
        explained = parts @ weight
        centre = (explained * gradient.T).sum(axis=1) / np.maximum((explained**2).sum(axis=1), 1e-300)
    return np.asarray(weight)


def _bad(frames: list[Frame]) -> NDArray[np.bool_]:
    label = frames[0].label
    assert label is not None
    return np.asarray(label == 1)
