"""Figures of one gateway process for Prometheus; they count, and name nobody."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """What a gateway counts."""

    def __init__(self) -> None:
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
        self._under_way = Gauge("ftl_requests_under_way", "Requests being answered now.", registry=self._registry)
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

    def text(self, under_way: int) -> bytes:
        """The figures in Prometheus' text format."""
        self._under_way.set(under_way)
        return generate_latest(self._registry)
