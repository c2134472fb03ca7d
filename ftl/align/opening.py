"""How a run begins: everybody greets everybody, and all have one session; or an interrupted run goes on."""

import hashlib
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import msgspec
import numpy as np

from ftl.align.identifiers import Identifiers
from ftl.align.messages import SALT_BYTES, VERSION, Hello, Plan, Size
from ftl.align.post import Post
from ftl.align.settings import AlignmentSettings
from ftl.align.store import Store
from ftl.crypto import check_points, multiply, random_scalar
from ftl.errors import CipherError

RECORD = "run"
MOST_PEOPLE = 1 << 28

_BASE = np.array([[9, *[0] * 31]], dtype=np.uint8)


class Kept(msgspec.Struct, frozen=True):
    """What a party keeps of the run itself.

    Attributes:
        key, fingerprint: to see that it is the same run of the same lists.
        secret: of the X25519 key shown in Hello.
        root: session of the first attempt; from it follow the points of all people.
        finished: id lists that are done.
    """

    key: bytes
    fingerprint: bytes
    secret: bytes
    root: bytes
    finished: int


@dataclass(frozen=True)
class Run:
    """An opened run.

    Attributes:
        post: the way to the others.
        active: the party that takes the result first.
        settings: of the alignment.
        pool: threads for the curve.
        store: what is kept to resume.
        kept: the record in it.
        common: peer to a secret shared with it alone, 32 bytes.
    """

    post: Post
    active: str
    settings: AlignmentSettings
    pool: Executor
    store: Store
    kept: Kept
    common: dict[str, bytes]

    @property
    def me(self) -> str:
        """This party's name."""
        return self.post.channel.me

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties."""
        return self.post.channel.peers

    def finish(self, number: int) -> None:
        """Note that the first `number` id lists are done."""
        self.store.keep(RECORD, msgspec.structs.replace(self.kept, finished=number))

    def plan(self, people: int) -> tuple[str, dict[str, int]]:
        """Who asks, and the lengths of the lists as far as this party may know them, its own (`people`) included.

        The party with the shortest list asks, the active one among equals: asking costs three multiplications per
        person, being asked one.
        """
        if self.me != self.active:
            self.post.send(self.active, "size", Size, people=people)
            return self._planned(people)
        sizes = {self.me: people, **{peer: self._size(peer) for peer in self.peers}}
        shortest = min(sizes, key=lambda name: (sizes[name], name != self.active, name))
        asking = self.active if self.settings.result == "one" else shortest
        for peer in self.peers:
            shown = sizes if peer == asking else {name: sizes[name] for name in (self.active, asking)}
            self.post.send(peer, "plan", Plan, asking=asking, people=shown)
        return asking, sizes

    def _size(self, peer: str) -> int:
        people = self.post.receive(peer, "size", Size).people
        if not 0 <= people <= MOST_PEOPLE:
            raise self.post.refusal(peer, "has an impossible number of people")
        return people

    def _planned(self, people: int) -> tuple[str, dict[str, int]]:
        plan = self.post.receive(self.active, "plan", Plan)
        everybody = {self.me, *self.peers}
        needed = everybody if plan.asking == self.me else {self.active, plan.asking}
        wrong = plan.asking not in everybody or not needed <= plan.people.keys() <= everybody
        if wrong or not all(0 <= some <= MOST_PEOPLE for some in plan.people.values()):
            raise self.post.refusal(self.active, "sent a plan with impossible parties or numbers of people")
        if plan.people.get(self.me, people) != people:
            raise self.post.refusal(self.active, "sent a plan with a wrong length of this party's list")
        if self.settings.result == "one" and plan.asking != self.active:
            raise self.post.refusal(self.active, "sent a plan in which another party learns the result")
        return plan.asking, plan.people


def open_run(
    post: Post, active: str, lists: Sequence[Identifiers], settings: AlignmentSettings, pool: Executor, store: Store
) -> Run:
    """Greet all peers; go on with the kept run when all parties have kept the same one.

    Raises:
        AlignmentError: a peer cannot take part in this run; named.
    """
    kept = _same_run(store, post, active, lists, settings)
    secret = kept.secret if kept else random_scalar()
    name = hashlib.sha256(kept.root + bytes([kept.finished])).digest() if kept else b""
    own = Hello(VERSION, secrets.token_bytes(SALT_BYTES), _public(secret), settings.result, len(lists), name)
    hellos = {post.channel.me: own, **_greet(post, own)}
    post = Post(post.channel, post.timeout, _session(hellos, active))
    if not kept or any(hello.kept != name for hello in hellos.values()):
        store.clear()
        key = secrets.token_bytes(32)
        kept = Kept(key, _fingerprint(key, post, active, lists, settings), secret, post.session, 0)
        store.keep(RECORD, kept)
    common = {peer: _common(post, peer, secret, hellos[peer]) for peer in post.channel.peers}
    return Run(post, active, settings, pool, store, kept, common)


def _greet(post: Post, own: Hello) -> dict[str, Hello]:
    for peer in post.channel.peers:
        post.greet(peer, own)
    return {peer: _checked(post, peer, own, post.receive(peer, "hello", Hello)) for peer in post.channel.peers}


def _checked(post: Post, peer: str, own: Hello, hello: Hello) -> Hello:
    if hello.version != VERSION:
        raise post.refusal(peer, f"speaks version {hello.version} of the alignment, not {VERSION}")
    if len(hello.salt) != SALT_BYTES or len(hello.public) != 32:
        raise post.refusal(peer, "opened the alignment with a wrong salt or key")
    if secrets.compare_digest(hello.salt, own.salt):
        raise post.refusal(peer, "sent back this party's own salt")
    if hello.result != own.result:
        raise post.refusal(peer, f"wants the result {hello.result!r}, not {own.result!r}")
    if hello.alternatives != own.alternatives:
        raise post.refusal(peer, f"has {hello.alternatives} lists of identifiers, not {own.alternatives}")
    return hello


def _session(hellos: dict[str, Hello], active: str) -> bytes:
    content = [(name, hello.salt, hello.public) for name, hello in sorted(hellos.items())]
    return hashlib.sha256(b"ftl/align/2" + msgspec.msgpack.encode([active, content])).digest()


def _same_run(
    store: Store, post: Post, active: str, lists: Sequence[Identifiers], settings: AlignmentSettings
) -> Kept | None:
    kept = store.kept(RECORD, Kept)
    if kept and secrets.compare_digest(kept.fingerprint, _fingerprint(kept.key, post, active, lists, settings)):
        return kept
    return None


def _fingerprint(
    key: bytes, post: Post, active: str, lists: Sequence[Identifiers], settings: AlignmentSettings
) -> bytes:
    names = sorted([post.channel.me, *post.channel.peers])
    head = msgspec.msgpack.encode([names, active, settings.model_dump()])
    return hashlib.blake2b(head + b"".join(ids.fingerprint(key) for ids in lists), key=key, digest_size=32).digest()


def _public(secret: bytes) -> bytes:
    return multiply(secret, _BASE).tobytes()


def _common(post: Post, peer: str, secret: bytes, hello: Hello) -> bytes:
    public = np.frombuffer(hello.public, dtype=np.uint8).reshape(1, 32)
    try:
        check_points(public)
    except CipherError as exc:
        raise post.refusal(peer, f"opened the alignment with a key that is none: {exc.message}") from exc
    return hashlib.sha256(b"ftl/align/common/1" + multiply(secret, public).tobytes()).digest()
