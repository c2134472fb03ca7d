"""A small consortium with hand-made model parts, served by real processes over TLS on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ftl import registry
from ftl.consortium import Folder, load
from ftl.federation import Curves, Evaluation, PartManifest, Request, Result, keep_part, ports
from ftl.protocols import Combiner
from ftl.serving import client_token_file, provision_scoring

PLUGIN = Path(__file__).parent / "plugin"
PEOPLE = 300
SEED = 11

TREES = [[0.6, -0.2, 0.3, -0.7], [0.2, 0.5, -0.4, 0.1]]
COMBINER = Combiner(TREES, scale=1.5, offset=0.05, parties=["bank", "partner"])
BANK_PART = {
    "columns": ["amount", "utilisation"],
    "weights": [0.0004, 0.8],
    "stumps": [
        {"column": 0, "threshold": 913.0, "left": 0b0011, "right": 0b1100},
        {"column": 1, "threshold": 0.517, "left": 0b0011, "right": 0b1100},
    ],
}
PARTNER_PART = {
    "columns": ["late", "age"],
    "weights": [],
    "stumps": [
        {"column": 0, "threshold": 1.733, "left": 0b1010, "right": 0b0101},
        {"column": 1, "threshold": 41.257, "left": 0b1010, "right": 0b0101},
    ],
}


def identifiers(number: int) -> dict[str, str]:
    """Simulated."""
    return {"id_number": f"ZX{number:07d}Q", "phone": f"0777{number:06d}"}


@dataclass
class Site:
    """A consortium folder and what is known of it."""

    folder: Folder
    bank: pa.Table
    partner: pa.Table
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{ports(self.folder)['gateway']}"

    @property
    def token(self) -> str:
        return client_token_file(self.folder).read_text()

    def score(self, body: object, **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.post(f"{self.url}/v1/scores", json=body, headers=headers, timeout=10, **more)  # type: ignore[arg-type]

    def start(self, *names: str) -> None:
        """Parties or ``gateway``; waits until they listen."""
        for name in names:
            self._spawn(name)
        for name in names:
            port = ports(self.folder)["gateway" if name == "gateway" else f"score-{name}"]
            wait_for(lambda port=port: listens(port), f"{name} to listen")  # type: ignore[misc]

    def _spawn(self, name: str) -> None:
        # A patient budget: a busy machine must not make answers degraded.
        module = ["ftl.serving.gateway", str(self.folder.root), "--budget", "1.0", "--processes", "1"]
        if name != "gateway":
            module = ["ftl.serving.party", str(self.folder.root), name]
        log = (self.folder.root / f"{name}.log").open("ab")
        environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}
        command = [sys.executable, "-m", *module]
        self.processes[name] = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        os.killpg(process.pid, number)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            process.wait(20)

    def log(self, name: str) -> str:
        return (self.folder.root / f"{name}.log").read_text()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s for {what}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ready(site: Site) -> bool:
    try:
        return httpx.get(f"{site.url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def consortium_text() -> dict[str, object]:
    ids = {
        "id_number": {"from": "id", "type": "string", "normalise": "upper"},
        "phone": {"from": "phone", "type": "string", "normalise": "digits"},
    }
    bank = {
        "role": "active",
        "sources": {"file": {"kind": "csv", "path": "data"}},
        "label": {"column": "bad"},
        "tables": {
            "people": {
                "source": "file",
                "table": "bank.csv",
                "columns": {
                    **ids,
                    "amount": {"from": "amount", "type": "float64"},
                    "ceiling": {"from": "ceiling", "type": "int64"},
                    "since": {"from": "since", "type": "date"},
                    "bad": {"from": "bad", "type": "int64"},
                },
                "derived": {"utilisation": "amount / ceiling"},
            }
        },
        "features": {
            "table": "people",
            "columns": ["amount", "utilisation"],
            "reasons": {
                "amount": {"code": "B1", "text": "The amount owed is high"},
                "utilisation": {"code": "B2", "text": "Much of the credit limit is used"},
            },
        },
    }
    partner = {
        "role": "passive",
        "sources": {"file": {"kind": "csv", "path": "data"}},
        "tables": {
            "people": {
                "source": "file",
                "table": "partner.csv",
                "columns": {
                    **ids,
                    "late": {"from": "late", "type": "float64"},
                    "age": {"from": "age", "type": "float64"},
                },
            }
        },
        "features": {
            "table": "people",
            "columns": ["late", "age"],
            "protected": ["age"],
            "reasons": {
                "late": {"code": "P1", "text": "Payments were late"},
                "age": {"code": "P2", "text": "Must never be named"},
            },
        },
    }
    return {
        "version": 1,
        "name": "serving_test",
        "identifiers": ["id_number", "phone"],
        "parties": {"bank": bank, "partner": partner},
        "simulation": {"links": "data/links.parquet", "notice": "All people are simulated."},
    }


def tables() -> tuple[pa.Table, pa.Table]:
    """The bank knows people 0–299, the partner 0–199 and some of its own."""
    generator = np.random.default_rng(SEED)
    amount, ceiling = generator.uniform(0, 2000, PEOPLE), generator.integers(1000, 3000, PEOPLE)
    bank = {
        "id_number": [identifiers(n)["id_number"] for n in range(PEOPLE)],
        "phone": [identifiers(n)["phone"] for n in range(PEOPLE)],
        "amount": amount,
        "ceiling": ceiling,
        "since": pa.array([18000 + n for n in range(PEOPLE)], pa.int32()).cast(pa.date32()),
        "bad": generator.integers(0, 2, PEOPLE),
        "utilisation": amount / ceiling,
    }
    known = [*range(200), *range(1000, 1050)]
    partner = {
        "id_number": [identifiers(n)["id_number"] for n in known],
        "phone": [identifiers(n)["phone"] for n in known],
        "late": generator.integers(0, 5, len(known)).astype(float),
        "age": generator.uniform(20, 70, len(known)),
    }
    return pa.table(bank), pa.table(partner)


def result(folder: Folder, run_id: str, combiner: Combiner = COMBINER) -> Result:
    """Keep both parts at their nodes, and say what a run would."""
    pointers = []
    for party, part in (("bank", BANK_PART), ("partner", PARTNER_PART)):
        manifest = PartManifest(run_id, "stumps", 0, party, "", list(part["columns"]))  # type: ignore[call-overload]
        encoder = json.dumps({"columns": part["columns"]}).encode()
        pointers.append(keep_part(folder.node(party), manifest, json.dumps(part).encode(), encoder))
    curves = Curves([0.0, 1.0], [0.0, 1.0], [(0.2, 0.2, 10)])
    figures = Evaluation(0.7, 0.3, 0.15, 1.0, 0.0, {}, 100, 20, curves)
    return Result(
        run_id=run_id,
        recipe="stumps",
        seed=0,
        aligned={"train": 100, "test": 100},
        metrics={"active_only": figures, "federated": figures},
        gain={},
        combiner=combiner,
        parts=pointers,
        rows={"bank": PEOPLE, "partner": 250},
        columns={"bank": 2, "partner": 2},
        settings={},
        seconds={"align": 0.0, "train": 0.0, "evaluate": 0.0},
        bytes_sent={},
        messages={},
    )


def register(folder: Folder, done: Result) -> registry.ModelVersion:
    tracking = registry.start_run(folder, Request(done.run_id, "stumps", 0))
    return registry.register(folder, tracking, done)


def make_site(root: Path) -> Site:
    (root / "consortium.yaml").write_text(json.dumps(consortium_text()))
    folder = load(root)
    bank, partner = tables()
    for party, table in (("bank", bank), ("partner", partner)):
        path = folder.node(party).validated("people")
        path.parent.mkdir(parents=True)
        write_deltalake(str(path), table)
    provision_scoring(folder, datetime.now(UTC))
    return Site(folder, bank, partner)


def expected(site: Site, number: int, *, partner: bool = True, combiner: Combiner = COMBINER, **fields: float) -> float:
    """Probability of default of a person, by hand."""
    person = {name: site.bank.column(name)[number].as_py() for name in ("amount", "ceiling")} | fields
    amount, used = person["amount"], person["amount"] / person["ceiling"]
    odds = 0.0004 * amount + 0.8 * used
    if partner and number < 200:
        late, age = (site.partner.column(name)[number].as_py() for name in ("late", "age"))
        first = (0 if amount < 913.0 else 2) + (1 if late < 1.733 else 0)
        second = (0 if used < 0.517 else 2) + (1 if age < 41.257 else 0)
        odds += combiner.scale * (TREES[0][first] + TREES[1][second]) + combiner.offset
    return float(1 / (1 + np.exp(-odds)))


@pytest.fixture(scope="session", autouse=True)
def recipe_plugin() -> Iterator[None]:
    """`stumps` is found like any other package's recipe, here and in the processes that a test starts."""
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both score servers and the gateway, running."""
    made = make_site(tmp_path_factory.mktemp("site"))
    register(made.folder, result(made.folder, "run-1"))
    try:
        made.start("bank", "partner", "gateway")
        wait_for(lambda: ready(made), "the gateway to load a model")
        yield made
    finally:
        for name in list(made.processes):
            made.stop(name)


@pytest.fixture
def folder(site: Site) -> Folder:
    return site.folder


def decode(response: httpx.Response) -> dict[str, object]:
    return msgspec.json.decode(response.content)
