"""A table that is `online`: what has landed answers before it is validated; otherwise the validated rows do."""

import asyncio
import csv
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgi_client import running
from conftest import BANK_PART, consortium_text, identifiers

from ftl.collect import collect
from ftl.consortium import Node, load
from ftl.errors import LakeError
from ftl.federation import PartManifest, keep_part
from ftl.quality import check
from ftl.serving import provision_scoring
from ftl.serving.credentials import node_pseudonyms
from ftl.serving.people import Population
from ftl.serving.score_server import ScoreServer
from ftl.serving.wire import Layout

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUN = "run-online"
SYNC = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ftl.collect import collect
from ftl.consortium import load
collect(load(Path(sys.argv[1])).node("bank"), "people", "incremental", lambda: datetime(2026, 3, 2, tzinfo=UTC))
"""


HOLD = """
import sys
import lmdb
with lmdb.open(sys.argv[1], map_size=1 << 30) as env, env.begin(write=True):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Bank:
    """The bank of the small consortium, with a source that a test changes."""

    def __init__(self, root: Path, *, online: bool) -> None:
        text: dict[str, Any] = consortium_text()
        text["parties"]["bank"]["tables"]["people"] |= {"online": online}
        (root / "data").mkdir(parents=True)
        (root / "consortium.yaml").write_text(json.dumps(text))
        self.root, self.amounts = root, dict.fromkeys(range(40), 500)
        folder = load(root)
        provision_scoring(folder, NOW)
        self.node: Node = folder.node("bank")
        manifest = PartManifest(RUN, "stumps", 0, "bank", "", list(BANK_PART["columns"]))
        encoder = json.dumps({"columns": BANK_PART["columns"]}).encode()
        self.sha256 = keep_part(self.node, manifest, json.dumps(BANK_PART).encode(), encoder).sha256

    def land(self, **amounts: int) -> None:
        """Change the source and sync it; nothing is validated."""
        self.write(**amounts)
        collect(self.node, "people", "incremental", lambda: NOW)

    def write(self, **amounts: int) -> None:
        """Change the source."""
        self.amounts |= {int(name[1:]): amount for name, amount in amounts.items()}
        with (self.root / "data" / "bank.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "phone", "amount", "ceiling", "since", "bad"])
            for number, amount in self.amounts.items():
                lines.writerow([*identifiers(number).values(), amount, 1000, "2020-01-01", number % 2])

    def validate(self) -> None:
        check(self.node, "people", lambda: NOW)

    def population(self) -> Population:
        made = Population(self.node, node_pseudonyms(self.node))
        made.load(RUN, self.sha256)
        return made

    def name(self, number: int) -> bytes:
        return node_pseudonyms(self.node)("|".join(identifiers(number).values()))


def log_odds(bank: Bank, population: Population, *people: int, **fields: object) -> list[float]:
    """NaN for somebody unknown."""
    layout, rows = population.rows(RUN, 1, [bank.name(one) for one in people], [fields] * len(people) if fields else ())
    said = Layout.unpack(layout, rows)
    assert said.log_odds is not None
    return [float(odds) if known else np.nan for known, odds in zip(said.known, said.log_odds, strict=True)]


def by_hand(amount: float) -> float:
    return 0.0004 * amount + 0.8 * amount / 1000


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    made = Bank(tmp_path / "online", online=True)
    made.land()
    made.validate()
    return made


def test_a_landed_row_answers_before_it_is_validated_and_a_new_person_is_known(bank: Bank) -> None:
    population = bank.population()
    population.land()
    assert log_odds(bank, population, 7, 8) == pytest.approx([by_hand(500)] * 2)
    bank.land(n7=900, n99=250)
    assert population.land()
    expected = [by_hand(900), by_hand(500), by_hand(250), np.nan]
    assert log_odds(bank, population, 7, 8, 99, 100) == pytest.approx(expected, nan_ok=True)
    assert not population.land()


def test_a_field_of_the_request_replaces_the_landed_value_as_well(bank: Bank) -> None:
    population = bank.population()
    bank.land(n7=900)
    population.land()
    assert log_odds(bank, population, 7, ceiling=2000) == pytest.approx([0.0004 * 900 + 0.8 * 900 / 2000])


def test_a_server_that_starts_late_sees_what_has_landed_since_the_last_check(bank: Bank) -> None:
    bank.land(n3=700)
    population = bank.population()
    population.land()
    assert log_odds(bank, population, 3, 4) == pytest.approx([by_hand(700), by_hand(500)])
    bank.validate()
    assert population.refresh()
    population.land()
    assert log_odds(bank, population, 3, 4) == pytest.approx([by_hand(700), by_hand(500)])


def test_without_the_store_the_validated_rows_answer(bank: Bank) -> None:
    for file in (bank.node.home / "online" / "people").iterdir():
        file.unlink()
    (bank.node.home / "online" / "people").rmdir()
    population = bank.population()
    assert not population.land()
    assert log_odds(bank, population, 7) == pytest.approx([by_hand(500)])


@pytest.mark.parametrize("kept_pages", [0, 2])
def test_a_damaged_store_leaves_the_rows_that_were_seen_and_is_followed_again_once_it_is_repaired(
    bank: Bank, kept_pages: int
) -> None:
    population = bank.population()
    bank.land(n7=900)
    population.land()
    store = bank.node.home / "online" / "people" / "data.mdb"
    whole = store.read_bytes()
    kept = whole[: 4096 * kept_pages]
    store.write_bytes(kept + b"\0" * (len(whole) - len(kept)))
    with suppress(LakeError):  # it is not read where its number says that nothing has landed
        population.land()
    assert log_odds(bank, population, 7, 8) == pytest.approx([by_hand(900), by_hand(500)])
    fresh = bank.population()
    with pytest.raises(LakeError, match=r"(?i)remove (its|the) folder"):
        fresh.land()
    assert log_odds(bank, fresh, 7) == pytest.approx([by_hand(500)])
    shutil.rmtree(store.parent)
    bank.land(n8=700)
    for one in (population, fresh):
        assert one.land()
        assert log_odds(bank, one, 7, 8) == pytest.approx([by_hand(900), by_hand(700)])


def test_a_store_that_another_process_writes_to_keeps_nobody_waiting(bank: Bank) -> None:
    population = bank.population()
    bank.land(n7=900)
    store = bank.node.home / "online" / "people"
    holding = subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        assert holding.stdout is not None
        assert holding.stdout.readline() == b"held\n"
        assert population.land()
        assert log_odds(bank, population, 7) == pytest.approx([by_hand(900)])
    finally:
        holding.communicate(b"\n", timeout=60)


def test_a_table_that_is_not_online_answers_from_validated_rows_only(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "offline", online=False)
    bank.land()
    bank.validate()
    population = bank.population()
    bank.land(n7=900)
    assert not population.land()
    assert log_odds(bank, population, 7) == pytest.approx([by_hand(500)])


def test_a_running_score_server_sees_what_lands(bank: Bank) -> None:
    server = ScoreServer(bank.node, refresh=3600.0)
    population = server._population
    population.load(RUN, bank.sha256)

    async def until_seen() -> list[float]:
        async with running(server.app()):
            bank.write(n7=900)
            # Of another process, as a stream's: a process may open the online store only once at a time.
            syncing = await asyncio.create_subprocess_exec(sys.executable, "-c", SYNC, str(bank.root))
            assert await syncing.wait() == 0
            for _ in range(600):
                if (said := log_odds(bank, population, 7)) != pytest.approx([by_hand(500)]):
                    return said
                await asyncio.sleep(0.05)
        return []

    assert asyncio.run(until_seen()) == pytest.approx([by_hand(900)])
