"""Residuals (and weights of the information matrix) of all people, as shares of the active party and the second.

For `hetero_logistic` the active party encrypts sines and cosines of its part of the margins; the second multiplies them
with its own, sums them to the series of :mod:`~ftl.protocols.hetero_linear.series` under uniform masks, and the active
party decrypts: both then hold shares, person by person, that are uniform by themselves. For `hetero_linear` the parts
add up as they are; with sample weights, known to the active party alone, the second multiplies encrypted weights.

Further parties give a uniform share of their part of the margins to each of the two: of the period of the series, or of
the modulus.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftl.crypto import lattice
from ftl.crypto.lattice import Factor, Operands
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
FEATURES_AT_ONCE = 3
"""Features in one message: the second converts them while the active party encrypts the next."""
_LEAST_REACH = 1.0
_FINEST, _COARSEST = 1e-4, 2e-3
"""Error of the series, in probability; coarse as long as coefficients still move much."""
ERROR_OF_WEIGHTS = 1e-5
"""Error of the series of whose slope the information matrix is made: far out, weights are small and columns large."""


@dataclass(frozen=True)
class Known:
    """What the active party knows of the shared training people.

    Attributes:
        label: float64, shape (n,): 1 is bad; a number with mean 0 and deviation 1.
        weight: float64, shape (n,), of mean 1.
    """

    label: Floats
    weight: Floats


@dataclass(frozen=True)
class Pending:
    """Shares of the active party that wait for the second.

    Attributes:
        own: int64, shape (n,): what it has of them already.
        awaited: whether the rest is on its way.
    """

    own: Residues
    awaited: bool


def steps_of(margin: Floats) -> int:
    """How far a party's part reaches, in steps of half a log-odds, rounded up."""
    return math.ceil(min(float(np.abs(margin).max(initial=0.0)), FARTHEST) / REACH_STEP)


def error_for(moved: float) -> float:
    """Error of the series in a round, when a coefficient moved by `moved` in the one before."""
    return min(max(moved / 25, _FINEST), _COARSEST)


def frequencies(exchange: Exchange, topic: str, reach: float, error: float) -> Series:
    """Active party: choose the series for the reach and tell everybody.

    Args:
        exchange: of the run.
        topic: of the round.
        reach: of all parties' parts together, in log-odds.
        error: that it may have, in probability.
    """
    reach = max(reach, _LEAST_REACH)
    chosen = series.choose(reach, error)
    for party in exchange.others:
        send(exchange.task, party, f"{topic}/frequencies", Frequencies(chosen.period, len(chosen.coefficients), reach))
    return chosen


def begin_residuals(
    exchange: Exchange, topic: str, margin: Floats, known: Known, chosen: Series | None, random: np.random.Generator
) -> Pending:
    """Active party: shares of weight · (answer - label), to be finished; `chosen` is None for `hetero_linear`."""
    plan = exchange.plan
    if chosen is not None:
        own = rounded(known.weight * (0.5 - known.label), plan.residual_bits, random)
        return begin_sines(exchange, topic, margin, known.weight, chosen, random, own)
    own = rounded(known.weight * (margin - known.label), plan.residual_bits, random)
    further = _further_shares(exchange, topic, MODULUS)
    if not plan.weighted:
        return Pending((own + further) % MODULUS, awaited=False)
    weight = rounded(known.weight, plan.feature_bits, random)
    _send_features(exchange, topic, weight[:, None])
    return Pending((own + multiplied(weight, further)) % MODULUS, awaited=True)


def begin_sines(
    exchange: Exchange,
    topic: str,
    margin: Floats,
    weight: Floats,
    chosen: Series,
    random: np.random.Generator,
    own: Residues | None = None,
) -> Pending:
    """Active party: shares of weight · (what the second makes of the series), to be finished.

    Args:
        exchange: of the run.
        topic: prefix of the messages.
        margin: own part, shape (n,).
        weight: shape (n,).
        chosen: the series.
        random: of rounding.
        own: added to its shares, shape (n,).
    """
    turns = np.floor(np.clip(margin, -FARTHEST, FARTHEST) / chosen.period * TURN).astype(np.int64)
    phase = (turns + _further_shares(exchange, topic, TURN)) % TURN / TURN
    features = weight[:, None] * series.encrypted_part(chosen, phase)
    _send_features(exchange, topic, rounded(features, exchange.plan.feature_bits, random))
    return Pending(np.zeros(len(margin), dtype=np.int64) if own is None else own, awaited=True)


def finish(exchange: Exchange, topic: str, pending: Pending) -> Residues:
    """Active party: its shares, shape (n,), once the second has answered."""
    if not pending.awaited:
        return pending.own
    people = len(pending.own)
    items = receive(exchange.task, exchange.second, f"{topic}/residuals", Ciphertexts).items
    opened = exchange.decrypted(exchange.second, items, lattice.block_count(people, 1))
    return np.asarray((lattice.rows(opened, people, 1)[:, 0] + pending.own) % MODULUS)


def passive_shares(
    exchange: Exchange,
    topic: str,
    margin: Floats,
    random: np.random.Generator,
    *,
    slope: bool = False,
    early: Callable[[Residues], None] = lambda _held: None,
) -> Residues | None:
    """A passive party's side; the second's shares, shape (n,).

    Args:
        exchange: of the run.
        topic: prefix of the messages.
        margin: own part, shape (n,).
        random: of rounding.
        slope: p (1 - p) is wanted, not p.
        early: is given the second's shares as soon as they are drawn, before the active party's features are here.
    """
    plan, second = exchange.plan, exchange.me == exchange.second
    if plan.link == "logit":
        chosen = _told(exchange, topic)
        turns = np.floor(np.clip(margin, -FARTHEST, FARTHEST) / chosen.period * TURN).astype(np.int64) % TURN
        if not second:
            _give(exchange, topic, turns, TURN)
            return None
        phase = (turns + _further_shares(exchange, topic, TURN)) % TURN / TURN
        part = series.slope_part(chosen, phase) if slope else series.value_part(chosen, phase)
        bits = slope_bits(exchange) if slope else plan.factor_bits
        return _multiply_features(exchange, topic, rounded(part, bits, random), early)
    fraction = plan.factor_bits if plan.weighted else plan.residual_bits
    own = rounded(margin, fraction, random)
    if not second:
        _give(exchange, topic, own, MODULUS)
        return None
    both = np.asarray((own + _further_shares(exchange, topic, MODULUS)) % MODULUS)
    if plan.weighted:
        return _multiply_features(exchange, topic, both[:, None], early)
    early(both)
    return both


def slope_bits(exchange: Exchange) -> int:
    """Bits after the point of what the second party multiplies with for the information matrix."""
    return exchange.plan.factor_bits


def _send_features(exchange: Exchange, topic: str, features: Residues) -> None:
    """Send features, shape (n, f), encrypted; few at a time, so that the second can begin."""
    for start in range(0, features.shape[1], FEATURES_AT_ONCE):
        columns = features[:, start : start + FEATURES_AT_ONCE].T
        slots = np.concatenate([lattice.blocks(column[:, None]) for column in columns])
        send(exchange.task, exchange.second, f"{topic}/features", Ciphertexts(exchange.encrypted(slots)))


def _multiply_features(exchange: Exchange, topic: str, own: Residues, early: Callable[[Residues], None]) -> Residues:
    """Multiply the active party's features with own factors, shape (n, f); the negative of the masks, shape (n,)."""
    people, features = own.shape
    active, public = exchange.task.active, exchange.publics[exchange.task.active]
    each = lattice.block_count(people, 1)
    masks = lattice.masks(MODULUS, each)
    held = np.asarray((MODULUS - lattice.rows(masks, people, 1)[:, 0]) % MODULUS)
    early(held)
    factors: list[Factor] = []
    for column in own.T:
        factors += [public.factor(slots) for slots in lattice.blocks(column[:, None])]
    values: list[Any] = []
    for start in range(0, features, FEATURES_AT_ONCE):
        items = receive(exchange.task, active, f"{topic}/features", Ciphertexts).items
        count = each * min(FEATURES_AT_ONCE, features - start)
        values += exchange.operands(active, items, count).values
    results = exchange.combined(active, Operands(values), factors, masks)
    send(exchange.task, exchange.task.active, f"{topic}/residuals", Ciphertexts(results))
    return held


def _told(exchange: Exchange, topic: str) -> Series:
    active = exchange.task.active
    told = receive(exchange.task, active, f"{topic}/frequencies", Frequencies)
    most = FARTHEST * len(exchange.parties)
    if not (0 < told.reach <= most and told.reach <= told.period <= 32 * told.reach):
        raise ProtocolError(f"{active!r} sent a series for margins up to {told.reach} with period {told.period}.")
    if not 1 <= told.harmonics <= series.MOST_HARMONICS:
        raise ProtocolError(f"{active!r} sent a series of {told.harmonics} harmonics.")
    return series.fit(told.period, told.harmonics, told.reach)[0]


def _give(exchange: Exchange, topic: str, values: Residues, modulus: int) -> None:
    """A further party: its margins less what the active party computes by itself go to the second; it keeps none."""
    pad = exchange.pads.numbers(exchange.task.active, topic, len(values), modulus)
    send(exchange.task, exchange.second, f"{topic}/margins", Shares((values - pad) % modulus))


def _further_shares(exchange: Exchange, topic: str, modulus: int) -> Residues:
    """Sum of the shares that this party has of further parties' margins, shape (n,)."""
    total = np.zeros(exchange.plan.people, dtype=np.int64)
    for party in exchange.parties[2:]:
        if exchange.me == exchange.task.active:
            values = exchange.pads.numbers(party, topic, len(total), modulus)
        else:
            values = receive(exchange.task, party, f"{topic}/margins", Shares).values
            require_residues(party, f"{topic}/margins", values, total.shape, modulus)
        total = (total + values) % modulus
    return total
