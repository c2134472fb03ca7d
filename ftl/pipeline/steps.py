"""The steps of a run, each callable by itself: collect, check quality, train, finish, promote.

A step takes the consortium's folder and names; it finds everything else there, so that a conductor (Airflow, DVC, the
command line) passes no state from one to the next and may repeat any of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ftl import collect as collecting
from ftl import monitoring, quality, registry
from ftl.consortium import Folder
from ftl.errors import FtlError, RegistryError
from ftl.federation import Engine, Evaluated, MemoryEngine, NvflareEngine, Progress, Request, Result, members
from ftl.pipeline.collected import lag_seconds, write_collected
from ftl.pipeline.journal import Clock, Entry, append, since_last_training
from ftl.pipeline.reference import pooled_reference
from ftl.registry import competition


class Trained(msgspec.Struct, frozen=True):
    """A finished and registered training run.

    Attributes:
        result: what the federation said.
        pooled: the pooled reference, where one may be computed.
        model: the registered version; None of a run that left a report and no model.
        seconds: of evaluation outside the federation and of registering.
    """

    result: Result
    pooled: Evaluated | None
    model: registry.ModelVersion | None
    seconds: float


class Steps:
    """The steps over one consortium folder.

    Args:
        folder: the consortium.
        clock: tells the time, with its zone.
        in_process: train over the in-memory channel instead of NVFlare's processes.
    """

    def __init__(self, folder: Folder, clock: Clock, *, in_process: bool = False) -> None:
        self.folder = folder
        self.clock = clock
        self.engine: Engine = MemoryEngine(folder) if in_process else NvflareEngine(folder)

    def collect(
        self,
        party: str,
        table: str,
        mode: Literal["full", "incremental"],
        on_progress: Callable[[collecting.SyncProgress], None] | None = None,
        interval: collecting.Interval | None = None,
    ) -> collecting.SyncReport:
        """Bring one table, or only an interval of its cursor, from its source into the party's lake."""
        report = collecting.collect(self.folder.node(party), table, mode, self.clock, on_progress, interval)
        counts = {"read": report.rows_read, "landed": report.rows_landed, "quarantined": report.rows_quarantined}
        late = lag_seconds(report, self.clock())
        counts |= {} if late is None else {"lag_seconds": late}
        self._journal("collect", report.seconds, party, table, counts, detail=mode)
        return report

    def mode(self, party: str, table: str) -> Literal["full", "incremental"]:
        """Incremental where a sync has been before and a cursor or the files' names tell what is new, else full."""
        return "incremental" if collecting.follows(self.folder.node(party), table) else "full"

    def check_quality(self, party: str, table: str) -> quality.QualityReport:
        """Run the table's suite on what has landed since the last check, and publish what passed.

        Args:
            party: whose table.
            table: its name in the lake.

        Returns:
            counts and reasons.

        Raises:
            QualityError: a critical expectation failed; nothing was published.
        """
        start = time.perf_counter()
        report = quality.check(self.folder.node(party), table, self.clock)
        counts = {"rows": report.rows, "passed": report.passed, "quarantined": report.quarantined}
        self._journal("quality", time.perf_counter() - start, party, table, counts)
        return report

    def request(
        self,
        run_id: str,
        *,
        recipe: str | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
        max_shared: int | None = None,
        parties: Sequence[str] = (),
    ) -> Request:
        """A training request; what is not given comes from `consortium.yaml`.

        Raises:
            FederationError: the parties named cannot train together.
        """
        training = self.folder.consortium.training
        request = Request(
            run_id=run_id,
            recipe=recipe or training.recipe,
            seed=training.seed if seed is None else seed,
            settings={**training.settings, **(settings or {})},
            max_shared=max_shared,
            timeout=training.timeout_seconds,
            parties=list(parties),
        )
        members(request, self.folder.consortium)
        return request

    def submit(self, request: Request) -> None:
        """Start a training run, or re-attach to it when it has been started before."""
        registry.start_run(self.folder, request)
        self.engine.submit(request)

    def watch(self, run_id: str, after: int = 0) -> Iterator[Progress]:
        """Follow a run; every round is logged to MLflow before it is passed on.

        Raises:
            FtlError: the run failed; the MLflow run is closed as failed.
        """
        tracking = registry.resume_run(self.folder, run_id)
        try:
            for progress in self.engine.watch(run_id, after):
                tracking.progress(progress)
                yield progress
        except FtlError as error:
            if not error.transient:
                tracking.fail(error.message)
            raise

    def finish(self, run_id: str) -> Trained:
        """Evaluate the reference, log everything and register the model version. Repeating it changes nothing."""
        start = time.perf_counter()
        result = self.engine.result(run_id)
        pooled = pooled_reference(self.folder, result.seed, list(result.rows)) if result.combiner else None
        tracking = registry.resume_run(self.folder, run_id)
        picture = self.folder.run(run_id) / "collected.png"
        if write_collected(since_last_training(self.folder, run_id), picture):
            tracking.keep(picture, "plots")
        tracking.finish(result, pooled)
        model = registry.register(self.folder, tracking, result) if result.combiner else None
        trained = Trained(result, pooled, model, time.perf_counter() - start)
        path = self.folder.run(run_id) / "trained.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(trained), indent=1))
        self._journal("train", sum(result.seconds.values()), run_id=run_id, detail=model.version if model else "")
        return trained

    def trained(self, run_id: str) -> Trained:
        """What `finish` returned for a run."""
        path = self.folder.run(run_id) / "trained.json"
        return msgspec.json.decode(path.read_bytes(), type=Trained)

    def drift(self, party: str, run_id: str | None = None) -> monitoring.Drift:
        """How far a party's rows have moved since a run; since the champion's when none is named."""
        if run_id is None:
            uri, name = registry.tracking_uri(self.folder), self.folder.consortium.training.model_name
            run_id = registry.resolve(uri, name)[1].run_id
        return monitoring.drift(self.folder.node(party), run_id)

    def promote(self, version: str, reason: str, approved_by: str, figures: str = "") -> registry.ModelVersion:
        """Make a version the champion."""
        start = time.perf_counter()
        name = self.folder.consortium.training.model_name
        model = registry.promote(self.folder, name, version, reason=reason, approved_by=approved_by, figures=figures)
        self._journal("promote", time.perf_counter() - start, detail=version)
        return model

    def roll_back(self, reason: str, approved_by: str) -> registry.ModelVersion:
        """Make the version before the present champion the champion again."""
        start = time.perf_counter()
        name = self.folder.consortium.training.model_name
        model = registry.roll_back(self.folder, name, reason=reason, approved_by=approved_by)
        self._journal("roll back", time.perf_counter() - start, detail=model.version)
        return model

    def judge(self, name: str) -> list[competition.Verdict]:
        """Look at an experiment, and do with a winner or a loser what its policy says.

        A winner is promoted at once under the policy ``automatic``; under ``ask`` it waits for :meth:`crown`. An
        experiment without any challenger left ends.

        Args:
            name: of the experiment.

        Returns:
            one verdict per challenger.

        Raises:
            RegistryError: there is no such experiment, or what was observed is unreadable.
        """
        experiment, now = competition.read_experiment(self.folder, name), self.clock()
        if experiment.ended is not None:
            raise RegistryError(f"Experiment {name!r} ended on {experiment.ended:%Y-%m-%d}.", cure=experiment.why)
        verdicts = competition.judge(self.folder, name, now)
        competition.publish(self.folder, name)
        best = winner(verdicts)
        if best is not None and experiment.policy == "automatic":
            self.crown(name, best.challenger, best.why, "policy: automatic")
        elif all(one.decision == "keep" for one in verdicts):
            competition.end(self.folder, name, now, verdicts[0].why)
        return verdicts

    def crown(self, name: str, version: str, reason: str, approved_by: str) -> registry.ModelVersion:
        """Promote an experiment's challenger with the test's figures as the reason, and end the experiment."""
        looks = competition.looks(self.folder, name)
        last = next((one for one in reversed(looks) if one.challenger == version), None)
        figures = msgspec.json.encode(last).decode() if last else ""
        model = self.promote(version, f"Experiment {name}: {reason}", approved_by, figures)
        competition.end(self.folder, name, self.clock(), f"Version {version} was promoted: {reason}")
        competition.publish(self.folder, name)
        return model

    def _journal(
        self,
        step: str,
        seconds: float,
        party: str = "",
        table: str = "",
        counts: dict[str, int] | None = None,
        *,
        run_id: str = "",
        detail: str = "",
    ) -> None:
        append(self.folder, Entry(step, self.clock(), seconds, party, table, counts or {}, run_id, detail))


def winner(verdicts: Sequence[competition.Verdict]) -> competition.Verdict | None:
    """The challenger to promote, the one with the largest gain where there are several."""
    good = [one for one in verdicts if one.decision == "promote" and one.comparison]
    return max(good, key=lambda one: one.comparison.difference if one.comparison else 0.0, default=None)
