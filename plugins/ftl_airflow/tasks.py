"""The steps as Airflow tasks: each calls one step, shows what it did, and announces what is new.

A task runs in the queue of the party whose data it touches. What it returns, and Airflow keeps, are counts, versions
and watermarks, nothing of a row.
"""

import logging
from typing import Any

from airflow.sdk import AssetAlias, task
from airflow.sdk.exceptions import AirflowSkipException

from ftl_airflow.assets import by_party, landed, validated
from ftl_airflow.consortium import folder, steps
from ftl_airflow.links import docs_of, task_with_docs

log = logging.getLogger(__name__)

Answer = dict[str, Any]


@task(map_index_template="{{ table }}")
def collect(party: str, table: str, mode: str, **context: Any) -> Answer:
    """Sync one table of a party; `mode` incremental means: as far as its cursor and its history allow."""
    _name_map_index(table)
    _skip_unless_chosen(party, context["params"])
    work = steps()
    report = work.collect(party, table, "full" if mode == "full" else work.mode(party, table))
    shown = {
        "mode": report.mode,
        "rows_landed": report.rows_landed,
        "rows_quarantined": report.rows_quarantined,
        "watermark": report.position or "none: the table has no cursor",
        "version": report.version,
    }
    if report.skipped:
        log.info("%s.%s: nothing new since version %s", party, table, report.version)
    else:
        log.info("%s.%s: %s rows landed as version %s", party, table, report.rows_landed, report.version)
        _announce(context, by_party(party, "landed"), landed(party, table), shown)
    return shown


@task_with_docs(map_index_template="{{ table }}")
def check_quality(party: str, table: str, **context: Any) -> Answer:
    """Gate what has landed of one table; a critical failure fails this task, and nothing downstream of it starts."""
    _name_map_index(table)
    _skip_unless_chosen(party, context["params"])
    _skip_unless_landed(party, table, context["triggering_asset_events"])
    docs = docs_of(party)
    log.info("Data Docs: %s", docs)
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # a page of internals per check otherwise
    report = steps().check_quality(party, table)
    shown = {
        "rows": report.rows,
        "passed": report.passed,
        "quarantined": report.quarantined,
        "reasons": report.reasons,
        "version": report.published_version,
        "data_docs": docs,
    }
    log.info("%s.%s: %s of %s new rows passed", party, table, report.passed, report.rows)
    log.info("%s.%s: %s rows stand in quarantine: %s", party, table, report.quarantined, report.reasons)
    if report.published:
        _announce(context, by_party(party, "validated"), validated(party, table), shown)
    return shown


@task
def finish(run: str) -> Answer:
    """Evaluate the reference, log everything to MLflow and register the model version."""
    trained = steps().finish(run)
    metrics = trained.result.metrics
    figures = next((one.intervals for one in metrics.values()), {})
    return {
        "run": run,
        "model": trained.model.name if trained.model else None,
        "version": trained.model.version if trained.model else None,
        "aliases": trained.model.aliases if trained.model else [],
        **{metric: {name: round(one.figures[metric], 4) for name, one in metrics.items()} for metric in figures},
    }


@task
def promote(approval: Answer, version: str, reason: str) -> Answer:
    """Make a version the champion, in the name of the person who approved it."""
    by = approval["responded_by_user"]
    model = steps().promote(version, reason, by["name"])
    return {"model": model.name, "version": model.version, "aliases": model.aliases}


@task
def judge_experiment() -> Answer:
    """Look at the experiment under way; skipped without one, and unless a winner waits for a person's approval."""
    from ftl.pipeline.steps import winner
    from ftl.registry.competition import running

    experiment = running(folder())
    if experiment is None:
        raise AirflowSkipException("no experiment is under way")
    verdicts = steps().judge(experiment.name)
    for one in verdicts:
        log.info("version %s: %s. %s p = %.4f", one.challenger, one.decision, one.why, one.p)
    best = winner(verdicts)
    if best is None or experiment.policy != "ask":
        raise AirflowSkipException(f"nothing waits for approval: {verdicts[0].why}")
    return {"experiment": experiment.name, "version": best.challenger, "reason": best.why}


@task
def crown(approval: Answer, verdict: Answer) -> Answer:
    """Promote an experiment's winner, in the name of the person who approved it, and end the experiment."""
    by = approval["responded_by_user"]["name"]
    promoted = steps().crown(verdict["experiment"], verdict["version"], verdict["reason"], by)
    return {"model": promoted.name, "version": promoted.version, "aliases": promoted.aliases}


def _name_map_index(table: str) -> None:
    from airflow.sdk import get_current_context

    get_current_context()["table"] = table  # type: ignore[typeddict-unknown-key]


def _skip_unless_chosen(party: str, params: Any) -> None:
    if party not in params["parties"]:
        raise AirflowSkipException(f"{party} was not chosen when this run was started")


def _skip_unless_landed(party: str, table: str, events: Any) -> None:
    """A run started by assets concerns only those; one started by hand concerns every table."""
    if len(events) and not events[landed(party, table)]:
        raise AirflowSkipException(f"nothing of {party}.{table} has landed")


def _announce(context: Any, by: AssetAlias, what: Any, shown: Answer) -> None:
    """Say that an asset has news, and keep its figures where Airflow shows them: at the event and at the asset."""
    context["outlet_events"][by].add(what, extra=shown)
    store = context["asset_state_store"][what]
    for key, value in shown.items():
        store.set(key, value)
