"""The exchange of encrypted vectors from which the active party gets the joint correlation matrix.

Parties stand in an order: the active one, then the passive ones by name. Each sends its encrypted vectors to those
after it. What a passive party gets back from another is masked; it and the other give the active party one share each,
so that neither learns the product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme, Plaintexts, SecretCipher
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.feature_report.columns import PEOPLE_PER_VECTOR
from ftl.protocols.feature_report.messages import (
    Products,
    Share,
    Vectors,
    Within,
    passive_parties,
    receive,
    require,
    require_shape,
    send,
)
from ftl.protocols.feature_report.products import Layout, decrypted, drawn_masks, encrypted, multiplied
from ftl.protocols.recipe import Task

ROUNDING = 1e-3
"""By which fixed point may carry a correlation beyond 1."""


@dataclass(frozen=True)
class Offer:
    """Vectors that this party has sent out encrypted.

    Attributes:
        cipher: with the secret key.
        layout: of the plaintexts.
        vectors: float64, shape (people, v).
    """

    cipher: SecretCipher
    layout: Layout
    vectors: NDArray[np.float64]


def offer(task: Task, cipher: SecretCipher, vectors: NDArray[np.float64], to: list[str]) -> Offer:
    """Send this party's vectors, encrypted, to those after it."""
    layout = Layout(len(vectors), cipher.capacity, masked=task.frame.party != task.active)
    message = Vectors(vectors.shape[1], cipher.public(), encrypted(cipher, layout, vectors))
    for party in to:
        send(task, party, "vectors", message)
    return Offer(cipher, layout, vectors)


def joint_matrix(
    task: Task, offered: Offer, within: dict[str, Within], own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Active party: correlation of all vectors, its own first, then those of each passive party in order.

    Args:
        task: of the run.
        offered: its own vectors.
        within: passive party to its own correlations.
        own: float64, shape (v, v): correlation of its own vectors.
    """
    parties = list(within)
    widths = {party: int(within[party].sizes.sum()) for party in parties}
    blocks: dict[tuple[str, str], NDArray[np.float64]] = {}
    for place, party in enumerate(parties):
        blocks[task.active, party] = _own_products(task, offered, party, widths[party])
        for other in parties[place + 1 :]:
            blocks[party, other] = _joined_shares(task, offered.layout.people, (party, other), widths)
    corner = {task.active: own} | {party: within[party].correlation for party in parties}
    rows = [[_block(blocks, corner, left, right) for right in corner] for left in corner]
    return np.block(rows)


def answer_all(task: Task, scheme: AdditiveScheme, own: NDArray[np.float64]) -> None:
    """Passive party: offer its vectors to those after it, and multiply what those before it offer."""
    parties = passive_parties(task)
    place = parties.index(task.frame.party)
    after = parties[place + 1 :]
    offered = offer(task, scheme.generate(), own, after) if after and own.shape[1] else None
    for party in after if offered is None else []:
        send(task, party, "vectors", Vectors(0, b"", []))
    for holder in (task.active, *parties[:place]):
        _answer(task, scheme, holder, own)
    if offered is not None:
        for party in after:
            _pass_on(task, offered, party)


def check_within(party: str, within: Within, columns: int, people: int) -> None:
    """Refuse what is no correlation matrix of the party's vectors.

    Raises:
        ProtocolError: names the party.
    """
    require_shape(party, "within", within.sizes, (columns,))
    require(party, "within", (within.sizes >= 0).all(), "a negative number of vectors")
    width = int(within.sizes.sum())
    require(party, "within", width * PEOPLE_PER_VECTOR <= people, f"{width} vectors of {people} people")
    require_shape(party, "within", within.correlation, (width, width))
    matrix = within.correlation
    proper = np.isfinite(matrix).all() and np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1, atol=1e-6)
    require(party, "within", proper and (np.abs(matrix) <= 1 + 1e-6).all(), "what is no correlation matrix")


def _block(
    blocks: dict[tuple[str, str], NDArray[np.float64]], corner: dict[str, NDArray[np.float64]], left: str, right: str
) -> NDArray[np.float64]:
    if left == right:
        return corner[left]
    return blocks[left, right] if (left, right) in blocks else blocks[right, left].T


def _own_products(task: Task, offered: Offer, party: str, width: int) -> NDArray[np.float64]:
    if not offered.vectors.shape[1]:
        return np.empty((0, width))
    whole = _read(task, offered, party, width)
    small = np.abs(whole) < 1 << 62
    require(party, "products", small.all(), "products that vectors of this size cannot have")
    return _checked(party, offered.layout.real(whole.astype(np.int64)))


def _joined_shares(task: Task, people: int, pair: tuple[str, str], widths: dict[str, int]) -> NDArray[np.float64]:
    """Correlations between two passive parties, from one share of each."""
    shape = widths[pair[0]], widths[pair[1]]
    if not min(shape):
        return np.empty(shape)
    shares = []
    for party, other in (pair, pair[::-1]):
        share = receive(task, party, f"share/{other}", Share).values
        require_shape(party, f"share/{other}", share, shape)
        shares.append(share)
    products = (shares[0] - shares[1]).view(np.int64)
    return _checked(" and ".join(pair), Layout(people, 1, masked=True).real(products))


def _checked(party: str, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    require(party, "products", (np.abs(correlation) <= 1 + ROUNDING).all(), "a correlation beyond 1")
    return np.clip(correlation, -1.0, 1.0)


def _answer(task: Task, scheme: AdditiveScheme, holder: str, own: NDArray[np.float64]) -> None:
    """Multiply what a party before this one has offered."""
    offered = receive(task, holder, "vectors", Vectors)
    if not offered.vectors:
        return
    too_many = not 0 < offered.vectors * PEOPLE_PER_VECTOR <= len(own)
    require(holder, "vectors", not too_many, f"{offered.vectors} vectors of {len(own)} people")
    if not own.shape[1]:
        send(task, holder, "products", Products(0, []))
        return
    masked = holder != task.active
    try:
        cipher = scheme.load_public(offered.public)
        layout = Layout(len(own), cipher.capacity, masked=masked)
        groups = layout.groups(offered.vectors)
        require(holder, "vectors", len(offered.ciphertexts) == groups, f"not {groups} groups of ciphertexts")
        loaded = [cipher.load(each, len(own)) for each in offered.ciphertexts]
    except CipherError as exc:
        raise ProtocolError(f"{holder!r} sent vectors that cannot be read: {exc.message}", cure=exc.cure) from exc
    masks = drawn_masks(layout, (own.shape[1], offered.vectors))
    parts = [
        multiplied(cipher, layout, each, own, masks[:, layout.places(group, offered.vectors)])
        for group, each in enumerate(loaded)
    ]
    send(task, holder, "products", Products(own.shape[1], parts))
    if masked:
        send(task, task.active, f"share/{holder}", Share(_ring(masks.T)))


def _pass_on(task: Task, offered: Offer, party: str) -> None:
    """Give the active party this party's share of the products with one after it."""
    whole = _read(task, offered, party, None)
    if whole.shape[1]:
        send(task, task.active, f"share/{party}", Share(_ring(whole)))


def _read(task: Task, offered: Offer, party: str, width: int | None) -> Plaintexts:
    """What a party made of this one's vectors: Python integers, shape (v, w).

    Args:
        task: of the run.
        offered: what was sent.
        party: who answers.
        width: vectors of that party, where known.
    """
    products = receive(task, party, "products", Products)
    fitting = products.vectors if width is None else width
    require(party, "products", 0 <= products.vectors == fitting, f"{products.vectors} vectors, not {fitting}")
    if not products.vectors:
        return np.empty((offered.vectors.shape[1], 0), dtype=object)
    groups = offered.layout.groups(offered.vectors.shape[1])
    require(party, "products", len(products.ciphertexts) == groups, f"not {groups} groups of ciphertexts")
    try:
        loaded = [offered.cipher.load(each, products.vectors) for each in products.ciphertexts]
        return decrypted(offered.cipher, offered.layout, loaded, offered.vectors)
    except CipherError as exc:
        raise ProtocolError(f"{party!r} sent products that cannot be read: {exc.message}", cure=exc.cure) from exc


def _ring(values: Plaintexts) -> NDArray[np.uint64]:
    """Integers modulo 2^64; the same shape."""
    flat = [int(value) % (1 << 64) for value in values.ravel()]
    return np.array(flat, dtype=np.uint64).reshape(values.shape)
