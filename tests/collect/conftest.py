from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collect_bank import KINDS, Bank, Server, open_bank, running_server
from mariadb_server import Maria, running_mariadb


@pytest.fixture(params=KINDS)
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    return open_bank(request.param, tmp_path, request)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Maria]:
    with running_mariadb() as server:
        yield server


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """Each look at it is one second later."""
    moments = iter(datetime(2024, 6, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(10**6))
    return lambda: next(moments)
