"""Which side of which variant a run uses, with the keys that it needs."""

from dataclasses import dataclass

from ftl.crypto.lattice import LatticeKey, LatticePublic
from ftl.crypto.shares import PRIMES
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.neural_transfer.encrypted import EncryptedActive, EncryptedPassive
from ftl.protocols.neural_transfer.gradients import ActiveExchange, PassiveExchange
from ftl.protocols.neural_transfer.noise import Noise
from ftl.protocols.neural_transfer.preparation import Sizes
from ftl.protocols.neural_transfer.settings import Plan
from ftl.protocols.neural_transfer.shared import SharedActive, SharedPassive
from ftl.protocols.recipe import Task


@dataclass(frozen=True)
class Keys:
    """This party's keys and the other's public ones, one or two.

    Attributes:
        own: this party's.
        others: the other's.
    """

    own: list[LatticeKey]
    others: list[LatticePublic]


def generate(protection: str) -> list[LatticeKey]:
    """Fresh keys: one for the encrypted variant, one per prime for secret shares."""
    return [LatticeKey(i) for i in range(len(PRIMES) if protection == "shared" else 1)]


def join(own: list[LatticeKey], publics: list[bytes], peer: str) -> Keys:
    """Keys of both parties.

    Args:
        own: this party's.
        publics: as the other sent them.
        peer: the other.

    Raises:
        ProtocolError: they are no such keys; names the other.
    """
    if len(publics) != len(own):
        raise ProtocolError(f"{peer!r} sent {len(publics)} public keys; {len(own)} were expected.")
    try:
        return Keys(own, [LatticePublic(i, public) for i, public in enumerate(publics)])
    except CipherError as exc:
        raise ProtocolError(f"{peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc


def active_exchange(task: Task, peer: str, plan: Plan, inputs: int, keys: Keys, noise: float) -> ActiveExchange:
    """The active party's side.

    Args:
        task: its task.
        peer: the passive party.
        plan: of the run.
        inputs: columns of the passive party's network.
        keys: of both.
        noise: standard deviation added to what the other learns.
    """
    if plan.protection == "encrypted":
        return EncryptedActive(task, peer, keys.own[0], keys.others[0], inputs, Noise(noise))
    sizes = Sizes(plan.shared - plan.calibration, plan.hidden, plan.inputs, inputs)
    return SharedActive(task, peer, keys.own, keys.others, sizes, Noise(noise))


def passive_exchange(task: Task, plan: Plan, inputs: int, keys: Keys, noise: float) -> PassiveExchange:
    """The passive party's side; `inputs` are the columns of its own network."""
    if plan.protection == "encrypted":
        return EncryptedPassive(task, task.active, keys.own[0], keys.others[0], plan.inputs, Noise(noise))
    sizes = Sizes(plan.shared - plan.calibration, plan.hidden, plan.inputs, inputs)
    return SharedPassive(task, task.active, keys.own, keys.others, sizes, Noise(noise))
