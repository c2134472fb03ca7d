"""Which consortium this Airflow serves: the one that `[ftl] folder` of its configuration names.

`airflow.cfg` says it, or the environment variable `AIRFLOW__FTL__FOLDER`, as for every other setting of Airflow.
"""

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from airflow.sdk import conf

from ftl import consortium
from ftl.consortium import Consortium, Folder


def root() -> Path:
    """The folder with `consortium.yaml`."""
    return Path(conf.get_mandatory_value("ftl", "folder"))


def folder() -> Folder:
    """The folder, loaded; read again only when `consortium.yaml` has changed."""
    return _loaded(root(), (root() / "consortium.yaml").stat().st_mtime_ns)


def declared() -> Consortium:
    """What `consortium.yaml` says."""
    return folder().consortium


def parties() -> list[str]:
    """All parties, in the order of the file."""
    return list(declared().parties)


def tables(party: str) -> list[str]:
    """A party's tables, in the order of the file."""
    return list(declared().parties[party].tables)


def now() -> datetime:
    """The clock that the steps are given."""
    return datetime.now(UTC)


def steps():  # its type would load the whole pipeline whenever a DAG is parsed
    """The steps over this consortium, trained by NVFlare."""
    from ftl.pipeline.steps import Steps

    return Steps(folder(), now)


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: int) -> Folder:  # noqa: ARG001 - part of the key
    return consortium.load(path)
