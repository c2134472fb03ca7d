"""What each part of a request costs: processor time in this process, requests of 32 people as under load."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving.site import Site, applicants
from ftl import registry
from ftl.decision import Application, Scored
from ftl.serving.clients import Access
from ftl.serving.credentials import metering_key, node_pseudonyms, pseudonymise, scoring_key
from ftl.serving.decisions import Decisions
from ftl.serving.messages import ApplicantReader
from ftl.serving.metering import Meter
from ftl.serving.people import Population
from ftl.serving.replay import Replays
from ftl.serving.scorer import Scorer
from ftl.serving.velocity import Velocity
from ftl.serving.wire import Answers, encode_answer, mask_bytes

TOGETHER = 32
SECONDS = 0.5


def costs(site: Site) -> dict[str, float]:
    """Part of a request to microseconds of processor time; TLS and HTTP are what is left of a whole request."""
    folder = site.folder
    bundle = registry.resolve(registry.tracking_uri(folder), folder.consortium.training.model_name)[1]
    people, scorer, found = applicants(site, TOGETHER), Scorer(bundle, {}), dict[str, float]()
    bodies, reader = [json.dumps(person).encode() for person in people], ApplicantReader(bundle)
    access, header = Access(folder, time.time), b"Bearer " + site.token.encode()
    identifiers, key = [reader.read(body).identifiers for body in bodies], scoring_key(folder)
    pseudonyms = [pseudonymise(key, bundle.identifiers, one) for one in identifiers]

    found["token"] = _each(lambda: access.admit(header, "scores"), 1)
    found["validation"] = _each(lambda: [reader.read(body) for body in bodies])
    found["pseudonym"] = _each(lambda: [pseudonymise(key, bundle.identifiers, one) for one in identifiers])
    scores = {}
    for party in scorer.needed:
        node, part = folder.node(party), bundle.parties[party].sha256
        population, width = Population(node, node_pseudonyms(node)), mask_bytes(bundle.combiner)
        population.load(bundle.run_id, part)
        layout, rows = population.rows(bundle.run_id, width, pseudonyms)

        def answer(p: Population = population, w: int = width, known: bytes = layout.digest) -> bytes:
            return encode_answer(*p.rows(bundle.run_id, w, pseudonyms), known)

        found[f"look-up and sub-scores of {party}"] = _each(answer)
        said, body = Answers(party), encode_answer(layout, rows)
        scores[party] = said.decode(body, TOGETHER)
        found[f"reading {party}'s answer"] = _each(lambda a=said, b=body: a.decode(b, TOGETHER))  # type: ignore[misc]
    found["combination and reasons"] = _each(lambda: scorer._answers(scores, {}, {}))  # noqa: SLF001
    found["reasons alone"] = _each(lambda: scorer._reasons(scores))  # noqa: SLF001
    return found | _kept(site)


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
