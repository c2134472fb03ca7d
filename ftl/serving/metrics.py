"""Figures of a gateway for Prometheus, over all its processes; they count, and name nobody."""

import os
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
UNDER_WAY = "ftl_requests_under_way"
SUFFIX = ".figures"


class Metrics:
    """What one gateway process counts, and what the others have.

    Every process writes its figures to a file of its own; whichever is asked adds them up. The files of processes that
    have ended stay until the gateway as a whole is started again, so that no counter ever falls.

    Args:
        folder: where the gateway processes of one machine keep what they share.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}{SUFFIX}"
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ftl_requests_total", "Requests answered.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "ftl_request_seconds", "Time spent on a request.", ["path"], buckets=SECONDS, registry=self._registry
        )
        self._degraded = Counter(
            "ftl_degraded_total", "Scores without a party that the model needs.", registry=self._registry
        )
        self._under_way = Gauge(UNDER_WAY, "Requests being answered now.", registry=self._registry)
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            path: of a route, never one that a caller made up.
            status: of the answer.
            seconds: that it took.
        """
        children = self._children.get((path, status))
        if children is None:
            children = self._requests.labels(path, str(status)), self._seconds.labels(path)
            self._children[path, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def degraded(self, people: int) -> None:
        """Count scores without a party that the model needs."""
        self._degraded.inc(people)

    def share(self, under_way: int) -> None:
        """Let the other processes know."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(self._own(under_way))
        fresh.replace(self._path)

    def text(self, under_way: int) -> bytes:
        """The figures of all processes in Prometheus' text format; those of others are at most a second old."""
        others = [path for path in self._path.parent.glob(f"*{SUFFIX}") if path != self._path]
        return _added([self._own(under_way), *map(_read, others)])

    def _own(self, under_way: int) -> bytes:
        self._under_way.set(under_way)
        return generate_latest(self._registry)


def forget_ended(folder: Path) -> None:
    """Remove what processes of an earlier gateway counted; called before the processes of a new one start."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    """Figures of another process; of one that has ended, without what it was doing."""
    with suppress(FileNotFoundError):
        text = path.read_bytes()
        if Path(f"/proc/{path.stem}").exists():
            return text
        return b"\n".join(line for line in text.split(b"\n") if not line.startswith(UNDER_WAY.encode()))
    return b""


def _added(texts: Iterable[bytes]) -> bytes:
    """Sums of samples of the same name and labels, family by family; when a series began is the earliest of all."""
    families: dict[str, dict[str, float]] = {}
    family = families.setdefault("", {})
    for line in (line for text in texts for line in text.decode().splitlines()):
        if line.startswith("# HELP"):
            heading = line
        elif line.startswith("#"):
            family = families.setdefault(f"{heading}\n{line}\n", {})
        else:
            name, _, value = line.rpartition(" ")
            began = "_created" in name
            family[name] = min(float(value), family.get(name, inf)) if began else float(value) + family.get(name, 0.0)
    samples = (
        heading + "".join(f"{name} {value!r}\n" for name, value in family.items())
        for heading, family in families.items()
    )
    return "".join(samples).encode()
