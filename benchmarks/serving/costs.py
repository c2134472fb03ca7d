"""What each part of a request costs: processor time in this process, requests of 32 people as under load."""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving.site import Site, everybody
from ftl import registry
from ftl.decision import Application, Scored
from ftl.errors import FtlError
from ftl.protocols import SubScores, combine
from ftl.serving.clients import Access
from ftl.serving.credentials import (
    gateway_tls,
    metering_key,
    node_pseudonyms,
    party_certificate,
    pseudonymise,
    scoring_key,
    server_name,
)
from ftl.serving.decisions import Decisions
from ftl.serving.messages import ApplicantReader
from ftl.serving.metering import Meter
from ftl.serving.people import Population
from ftl.serving.replay import Replays
from ftl.serving.velocity import Velocity
from ftl.serving.version import Version
from ftl.serving.wire import Question, decode_question, encode_answer, encode_answers, encode_question

TOGETHER = 32
SECONDS = 0.5


def costs(site: Site) -> dict[str, float]:
    """Part of a request to microseconds of processor time; HTTP and the event loops are what is left of a whole one."""
    folder = site.folder
    bundle = registry.bundle_of(registry.tracking_uri(folder), registry.ModelVersion(site.model, "1"))
    bodies, reader, version = everybody(site)[:TOGETHER], ApplicantReader(bundle), Version(bundle)
    access, header = Access(folder, time.time), b"Bearer " + site.token.encode()
    people, key, found = [reader.read(body).identifiers for body in bodies], scoring_key(folder), dict[str, float]()
    pseudonyms = [pseudonymise(key, bundle.identifiers, one) for one in people]
    found["token"] = _each(lambda: access.admit(header, "scores"), 1)
    found["validation"] = _each(lambda: [reader.read(body) for body in bodies])
    found["pseudonym"] = _each(lambda: [pseudonymise(key, bundle.identifiers, one) for one in people])
    said: dict[str, SubScores | FtlError] = {}
    for party in version.needed:
        said[party] = _party(site, version, party, pseudonyms, found)
    found["combination and reasons"] = _each(lambda: version.answers(said, {}).reasons)
    found["of it, reasons"] = round(found["combination and reasons"] - _each(lambda: _unexplained(version, said)), 2)
    return found | _kept(site)


def _party(site: Site, version: Version, party: str, pseudonyms: list[bytes], found: dict[str, float]) -> SubScores:
    """What a party does, and what it costs to bring it over."""
    node, wanted = site.folder.node(party), version.wanted(party)
    population = Population(node, node_pseudonyms(node))
    population.load(wanted.run_id, wanted.sha256)
    layout, rows = population.rows(wanted.run_id, wanted.mask_bytes, pseudonyms)
    question = Question([version.wanted(party)], pseudonyms)

    def answer(known: bytes = layout.digest) -> bytes:
        model = decode_question(encode_question(question)).models[0]
        return encode_answers([encode_answer(*population.rows(model.run_id, model.mask_bytes, pseudonyms), known)])

    found[f"look-up and sub-scores of {party}"] = _each(answer)
    first = version.read(party, encode_answer(layout, rows), len(pseudonyms))  # with the layout, which crosses once
    body = encode_answer(layout, rows, layout.digest)
    found[f"reading {party}'s answer"] = _each(lambda: version.read(party, body, len(pseudonyms)))
    found[f"TLS with {party}"] = _each(_secured(site, party, encode_question(question), answer()))
    return first


def _unexplained(version: Version, said: dict[str, SubScores | FtlError]) -> object:
    """The version's probabilities without what explains them."""
    scores = {party: one for party, one in said.items() if isinstance(one, SubScores)}
    return combine.answer(version.bundle.combiner, version.bundle.active, scores)


def _secured(site: Site, party: str, question: bytes, answer: bytes) -> Callable[[], object]:
    """Both ends of a question and its answer over an established connection, without a network."""
    certificate, clients = party_certificate(site.folder.node(party))
    accepts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepts.load_cert_chain(certificate.certificate, certificate.key)
    accepts.load_verify_locations(clients)
    accepts.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asker = gateway_tls(site.folder).wrap_bio(back, there, server_hostname=server_name(party))
    party_end = accepts.wrap_bio(there, back, server_side=True)
    for end in (asker, party_end, asker, party_end):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()

    def once() -> None:
        asker.write(question)
        _read(party_end, len(question))
        party_end.write(answer)
        _read(asker, len(answer))

    return once


def _read(end: ssl.SSLObject, size: int) -> None:
    while size > 0:
        size -= len(end.read(size))


def _kept(site: Site) -> dict[str, float]:
    """Of what is counted and kept, in a folder of its own."""
    decisions, scorecard = Decisions(site.folder, time.time), site.folder.consortium.scorecard
    application, scored, found = Application(12_000.0, 24), Scored(0.03, False), dict[str, float]()
    with TemporaryDirectory() as place:
        meter = Meter(Path(place), metering_key(site.folder), lambda: datetime.now(UTC))
        replays, velocity = Replays(Path(place), b"k", time.time), Velocity(Path(place), time.time)

        def once(numbers: list[int] = [0]) -> None:  # noqa: B006 - counts over all calls
            numbers[0] += 1
            with replays.once("a", str(numbers[0]).encode()):
                pass

        def record() -> None:
            meter.record(b"p" * 32, "m/1", ["a", "b"], degraded=False, client="c")

        found["metering"] = _each(record, 1)
        found["idempotency key"] = _each(once, 1)
        found["velocity"] = _each(lambda: velocity.count("ab" * 16), 1)
        meter.close()
    made = Decisions.decide
    found["rules"] = _each(lambda: made(decisions, "full.1", application, scored, scorecard), 1)
    return found


def _each(work: Callable[[], object], people: int = TOGETHER) -> float:
    """Microseconds of processor time for one person."""
    work()
    times, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        work()
        times += 1
    return round(spent / times / people * 1e6, 2)
