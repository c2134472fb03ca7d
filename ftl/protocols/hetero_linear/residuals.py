"""Residuals (and weights of the information matrix) of all people, as shares of the active party and the second.

For `hetero_logistic` the active party encrypts sines and cosines of its part of the margins; the second multiplies them
with its own, sums them to the series of :mod:`~ftl.protocols.hetero_linear.series` under uniform masks, and the active
party decrypts: both then hold shares, person by person, that are uniform by themselves. For `hetero_linear` the parts add
up as they are; with sample weights, which the active party alone knows, the second multiplies encrypted weights.

Further parties give a uniform share of their part of the margins to each of the two: of the period of the series, or of
the modulus.
"""

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import lattice
from ftl.crypto.lattice import Factor
from ftl.crypto.shares import random_below
from ftl.errors import ProtocolError
from ftl.protocols.hetero_linear import series
from ftl.protocols.hetero_linear.exchange import Exchange
from ftl.protocols.hetero_linear.fixed import Floats, Residues, multiplied, rounded
from ftl.protocols.hetero_linear.messages import (
    MODULUS,
    Ciphertexts,
    Frequencies,
    Shares,
    receive,
    require_residues,
    send,
)
from ftl.protocols.hetero_linear.series import Series

TURN = 1 << 32
"""Parts of a period in which shares of margins are counted."""
FARTHEST = 8.0
"""Log-odds at which a party's own part of the margins is cut off for training: σ(-8) is 0.0003."""
REACH_STEP = 0.5
_LEAST_REACH = 1.0
_FINEST, _COARSEST = 1e-4, 2e-3
"""Error of the series, in probability; coarse as long as coefficients still move much."""


@dataclass(frozen=True)
class Known:
    """What the active party knows of the shared training people.

    Attributes:
        label: float64, shape (n,): 1 is bad; a number with mean 0 and deviation 1.
        weight: float64, shape (n,), of mean 1.
    """

    label: Floats
    weight: Floats


def steps_of(margin: Floats) -> int:
    """How far a party's part reaches, in steps of half a log-odds, rounded up."""
    return math.ceil(min(float(np.abs(margin).max(initial=0.0)), FARTHEST) / REACH_STEP)


def frequencies(exchange: Exchange, topic: str, reach: float, moved: float) -> Series:
    """Active party: choose the series for the reach and tell everybody.

    Args:
        exchange: of the run.
        topic: of the round.
        reach: of all parties' parts together.
        moved: largest change of a coefficient in the last round; the series need not be much finer.
    """
    chosen = series.choose(max(reach, _LEAST_REACH), min(max(moved / 50, _FINEST), _COARSEST))
    message = Frequencies(chosen.period, len(chosen.coefficients), max(reach, _LEAST_REACH))
    for party in exchange.others:
        send(exchange.task, party, f"{topic}/frequencies", message)
    return chosen


def active_residuals(
    exchange: Exchange, topic: str, margin: Floats, known: Known, chosen: Series | None, random: np.random.Generator
) -> Residues:
    """The active party's shares of weight · (answer - label), shape (n,); `chosen` is None for `hetero_linear`."""
    plan = exchange.plan
    if chosen is not None:
        own = rounded(known.weight * (0.5 - known.label), plan.residual_bits, random)
        return (_active_sines(exchange, topic, margin, known.weight, chosen, random) + own) % MODULUS
    own = rounded(known.weight * (margin - known.label), plan.residual_bits, random)
    further = _further_shares(exchange, topic, MODULUS)
    if not plan.weighted:
        return (own + further) % MODULUS
    weight = rounded(known.weight, plan.feature_bits, random)
    products = _encrypt_features(exchange, topic, weight[:, None])
    return (own + multiplied(weight, further) + products) % MODULUS


def active_weights(
    exchange: Exchange, topic: str, margin: Floats, weight: Floats, chosen: Series, random: np.random.Generator
) -> Residues:
    """The active party's shares of weight · p (1 - p), shape (n,)."""
    return _active_sines(exchange, topic, margin, weight, chosen, random)


def passive_shares(
    exchange: Exchange, topic: str, margin: Floats, random: np.random.Generator, *, slope: bool = False
) -> Residues | None:
    """A passive party's side of :func:`active_residuals` and (`slope`) of :func:`active_weights`; the second's shares."""
    plan, second = exchange.plan, exchange.me == exchange.second
    if plan.link == "logit":
        chosen = _told(exchange, topic)
        turns = np.floor(np.clip(margin, -FARTHEST, FARTHEST) / chosen.period * TURN).astype(np.int64) % TURN
        if not second:
            return _give(exchange, topic, turns, TURN)
        phase = (turns + _further_shares(exchange, topic, TURN)) % TURN / TURN
        part = series.slope_part(chosen, phase) if slope else series.value_part(chosen, phase)
        return _multiply_features(
            exchange, topic, rounded(part, slope_bits(exchange) if slope else plan.factor_bits, random)
        )
    fraction = plan.factor_bits if plan.weighted else plan.residual_bits
    own = rounded(margin, fraction, random)
    if not second:
        return _give(exchange, topic, own, MODULUS)
    both = (own + _further_shares(exchange, topic, MODULUS)) % MODULUS
    return _multiply_features(exchange, topic, both[:, None]) if plan.weighted else both


def slope_bits(exchange: Exchange) -> int:
    """Bits after the point of what the second party multiplies with for the information matrix."""
    return exchange.plan.factor_bits - 3


def _active_sines(
    exchange: Exchange, topic: str, margin: Floats, weight: Floats, chosen: Series, random: np.random.Generator
) -> Residues:
    turns = np.floor(np.clip(margin, -FARTHEST, FARTHEST) / chosen.period * TURN).astype(np.int64)
    phase = (turns + _further_shares(exchange, topic, TURN)) % TURN / TURN
    features = weight[:, None] * series.encrypted_part(phase, len(chosen.coefficients))
    return _encrypt_features(exchange, topic, rounded(features, exchange.plan.feature_bits, random))


def _encrypt_features(exchange: Exchange, topic: str, features: Residues) -> Residues:
    """Send features, shape (n, f), encrypted; the shares of their products with the second's, shape (n,)."""
    slots = np.concatenate([lattice.blocks(column[:, None]) for column in features.T])
    send(exchange.task, exchange.second, f"{topic}/features", Ciphertexts(exchange.encrypted(slots)))
    items = receive(exchange.task, exchange.second, f"{topic}/residuals", Ciphertexts).items
    opened = exchange.decrypted(exchange.second, items, lattice.block_count(len(features), 1))
    return lattice.rows(opened, len(features), 1)[:, 0]


def _multiply_features(exchange: Exchange, topic: str, own: Residues) -> Residues:
    """Multiply the active party's features with own factors, shape (n, f); the negative of the masks, shape (n,)."""
    people, features = own.shape
    active, public = exchange.task.active, exchange.publics[exchange.task.active]
    factors: list[Factor] = []
    for column in own.T:
        factors += [public.factor(slots) for slots in lattice.blocks(column[:, None])]
    items = receive(exchange.task, active, f"{topic}/features", Ciphertexts).items
    operands = exchange.operands(active, items, len(factors))
    results, masks = exchange.combined(active, operands, factors, features)
    send(exchange.task, active, f"{topic}/residuals", Ciphertexts(results))
    return (MODULUS - lattice.rows(masks, people, 1)[:, 0]) % MODULUS


def _told(exchange: Exchange, topic: str) -> Series:
    active = exchange.task.active
    told = receive(exchange.task, active, f"{topic}/frequencies", Frequencies)
    most = FARTHEST * len(exchange.parties)
    if not (0 < told.reach <= most and told.reach <= told.period <= 16 * told.reach):
        raise ProtocolError(f"{active!r} sent a series for margins up to {told.reach} with period {told.period}.")
    if not 1 <= told.harmonics <= series.MOST_HARMONICS:
        raise ProtocolError(f"{active!r} sent a series of {told.harmonics} harmonics.")
    return series.fit(told.period, told.harmonics, told.reach)[0]


def _give(exchange: Exchange, topic: str, values: Residues, modulus: int) -> None:
    """A further party: one uniform share for the active party, the other for the second."""
    if modulus == MODULUS:
        share: NDArray[np.int64] = random_below(MODULUS, values.shape)
    else:
        share = np.frombuffer(secrets.token_bytes(4 * len(values)), dtype="<u4").astype(np.int64)
    send(exchange.task, exchange.task.active, f"{topic}/margins", Shares(share))
    send(exchange.task, exchange.second, f"{topic}/margins", Shares((values - share) % modulus))


def _further_shares(exchange: Exchange, topic: str, modulus: int) -> Residues:
    """Sum of the shares that further parties give to this one, shape (n,)."""
    total = np.zeros(exchange.plan.people, dtype=np.int64)
    for party in exchange.parties[2:]:
        values = receive(exchange.task, party, f"{topic}/margins", Shares).values
        require_residues(party, f"{topic}/margins", values, total.shape, modulus)
        total = (total + values) % modulus
    return total
