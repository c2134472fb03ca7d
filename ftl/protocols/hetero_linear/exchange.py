"""Inner products of one party's columns with vectors that are shared among others, and products person by person.

The holder of a vector encrypts it; the owner of columns multiplies, adds a uniform mask to every slot and sends the
result back; the holder decrypts, adds up *all* people and returns the sums; the owner takes the masks' sums off. The
holder sees uniform numbers, the owner sums over all people.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ftl.crypto import lattice
from ftl.crypto.lattice import Factor, LatticeKey, LatticePublic, Operands
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.hetero_linear.fixed import Layout, Residues, inner_products
from ftl.protocols.hetero_linear.messages import MODULUS, Ciphertexts, Sums, receive, require_residues, send
from ftl.protocols.hetero_linear.pads import Pads
from ftl.protocols.hetero_linear.settings import Plan
from ftl.protocols.recipe import Task

PRIME = 0
KEPT_FACTORS = 3000
"""Plaintexts ready to multiply with that a party keeps between rounds, about 200 kB each."""


@dataclass
class Columns:
    """A party's columns in fixed point, laid out for products.

    Args:
        values: int64, shape (n, c): residues.
        layout: of what they are multiplied with.
    """

    values: Residues
    layout: Layout
    _kept: dict[tuple[str, int], list[Factor]] = field(default_factory=dict, init=False, repr=False)

    @property
    def groups(self) -> int:
        """Results for all of them."""
        return self.layout.groups(self.values.shape[1])

    def factors(self, holder: str, public: LatticePublic) -> Iterator[list[Factor]]:
        """Group by group what to multiply the holder's plaintexts with; kept where memory allows."""
        keep = self.groups * self.layout.plaintexts <= KEPT_FACTORS
        for group in range(self.groups):
            found = self._kept.get((holder, group))
            if found is None:
                found = [public.factor(slots) for slots in self.layout.of_columns(self.values, group)]
                if keep:
                    self._kept[holder, group] = found
            yield found


@dataclass(frozen=True)
class Exchange:
    """One party's way to the others.

    Attributes:
        task: of the run.
        plan: of the run.
        key: its own.
        publics: other party to its public key.
        pads: with all others.
        columns: party to the number of its columns, of all that take part: the active one, then the others by name.
    """

    task: Task
    plan: Plan
    key: LatticeKey
    publics: dict[str, LatticePublic]
    pads: Pads
    columns: dict[str, int]

    @property
    def me(self) -> str:
        """This party."""
        return self.task.frame.party

    @property
    def parties(self) -> list[str]:
        """All that take part, in their common order."""
        return list(self.columns)

    @property
    def others(self) -> list[str]:
        """All but this one."""
        return [party for party in self.columns if party != self.me]

    @property
    def second(self) -> str:
        """The passive party that shares the residuals with the active one."""
        return self.parties[1]

    def encrypted(self, slots: lattice.Slots) -> list[bytes]:
        """Plaintexts under the own key."""
        return self.key.encrypt(slots)

    def operands(self, sender: str, items: list[bytes], count: int) -> Operands:
        """Another party's plaintexts, ready to multiply.

        Raises:
            ProtocolError: they are none; names the sender.
        """
        try:
            return self.publics[sender].operands(items, count)
        except CipherError as exc:
            raise ProtocolError(f"{sender!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc

    def decrypted(self, sender: str, items: list[bytes], count: int) -> lattice.Slots:
        """Masked products under the own key, shape (count, 8192).

        Raises:
            ProtocolError: they are none; names the sender.
        """
        try:
            return self.key.decrypt(items, count)
        except CipherError as exc:
            raise ProtocolError(f"{sender!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc

    def inner(
        self,
        topic: str,
        held: Residues | None,
        holders: list[str],
        vectors: int,
        columns: Columns | None,
        width: list[int],
    ) -> Residues | None:
        """Inner products of every party's columns with vectors that are the sum of what the holders hold.

        Args:
            topic: prefix of the messages.
            held: this party's summand, shape (n, d), if it is a holder.
            holders: who holds summands.
            vectors: d.
            columns: this party's own columns; None if it wants nothing.
            width: number of columns of each party, in the common order; 0 for those that want nothing.

        Returns:
            residues, shape (c, d), of this party's own columns.
        """
        if held is not None:
            self.offer(topic, held, width)
        masks = self.multiply(topic, holders, columns)
        return self.collect(topic, held, vectors, columns, width, masks)

    def offer(self, topic: str, held: Residues, width: list[int]) -> None:
        """First step of :meth:`inner` at a holder: send its vectors, encrypted, to those who want products."""
        asking = self._asking(width)
        items = self.encrypted(Layout(*held.shape).of_vectors(held)) if asking else []
        for party in asking:
            send(self.task, party, f"{topic}/vectors", Ciphertexts(items))

    def multiply(self, topic: str, holders: list[str], columns: Columns | None) -> dict[str, Residues]:
        """Second step: answer holders with masked products; holder to the masks' sums."""
        if columns is None:
            return {}
        return {holder: self._multiply(topic, holder, columns) for holder in holders if holder != self.me}

    def collect(
        self,
        topic: str,
        held: Residues | None,
        vectors: int,
        columns: Columns | None,
        width: list[int],
        masks: dict[str, Residues],
    ) -> Residues | None:
        """Last step: open the sums that others asked for, and put together the own ones."""
        layout = Layout(self.plan.people, vectors)
        if held is not None:
            for party, asked in self._asking(width).items():
                self._answer(topic, party, layout, asked)
        if columns is None:
            return None
        count = columns.values.shape[1]
        total = np.zeros((count, vectors), dtype=np.int64)
        if held is not None:
            total = inner_products(columns.values, held)
        for holder, mask in masks.items():
            sums = receive(self.task, holder, f"{topic}/sums", Sums).values
            require_residues(holder, f"{topic}/sums", sums, mask.shape, MODULUS)
            total += layout.unfolded((sums - mask) % MODULUS, count)
        return total % MODULUS

    def _asking(self, width: list[int]) -> dict[str, int]:
        """Other party to the number of columns that it wants products of."""
        return {party: c for party, c in zip(self.parties, width, strict=True) if c and party != self.me}

    def _multiply(self, topic: str, holder: str, columns: Columns) -> Residues:
        """Send the masked products with a holder's vectors; the masks' sums, shape (groups, width)."""
        layout, public = columns.layout, self.publics[holder]
        items = receive(self.task, holder, f"{topic}/vectors", Ciphertexts).items
        operands = self.operands(holder, items, layout.plaintexts)
        masks = lattice.masks(MODULUS, columns.groups)
        places = range(layout.plaintexts)
        results = [
            public.sum_of_products(operands, places, factors, mask)
            for factors, mask in zip(columns.factors(holder, public), masks, strict=True)
        ]
        send(self.task, holder, f"{topic}/products", Ciphertexts(results))
        return layout.summed(masks)

    def _answer(self, topic: str, party: str, layout: Layout, count: int) -> None:
        """Decrypt a party's products and return their sums over all people: never fewer, whatever it asks."""
        items = receive(self.task, party, f"{topic}/products", Ciphertexts).items
        slots = self.decrypted(party, items, layout.groups(count))
        send(self.task, party, f"{topic}/sums", Sums(layout.summed(slots)))

    def combined(self, holder: str, operands: Operands, factors: list[Factor], masks: lattice.Slots) -> list[bytes]:
        """Person by person the sum over features of the holder's features times own factors, for it to decrypt.

        Args:
            holder: whose features.
            operands: plaintexts of the first feature, then of the second, and so on.
            factors: likewise.
            masks: shape (plaintexts of a feature, 8192).
        """
        each = len(masks)
        results = []
        for block, mask in enumerate(masks):
            places = range(block, len(factors), each)
            chosen = [factors[place] for place in places]
            results.append(self.publics[holder].sum_of_products(operands, places, chosen, mask))
        return results
