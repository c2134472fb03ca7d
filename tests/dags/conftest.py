"""Airflow in a folder of its own. It reads its settings when it is first imported, so they are set before that."""

import os
from pathlib import Path

import pytest

from ftl import consortium

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A consortium of three parties."""
    root = tmp_path_factory.mktemp("three")
    consortium.new(root, "german", {"parties": "3"})
    return consortium.load(root)


@pytest.fixture(scope="session")
def airflow(folder, tmp_path_factory):
    """Settings for everything that imports Airflow; tests must take this fixture before they do."""
    settings = {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__FTL__FOLDER": str(folder.root),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    import airflow

    yield airflow
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def dagbag(airflow):
    """All DAGs, parsed."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag()
