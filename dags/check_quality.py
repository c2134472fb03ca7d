"""Gate what has landed: rows that pass are published, the others go to quarantine with their reasons.

Started by every landed table, for that table; by hand, for all tables. When a critical expectation fails, nothing of
that table is published and the task fails without being tried again: correct the data or the suite, then clear the
task.
"""

from airflow.sdk import AssetAny, dag
from ftl_airflow import (
    TRANSIENT_ONLY,
    by_party,
    check_quality,
    choose_parties,
    landed,
    landings,
    parties,
    tables,
    validated,
)


@dag(
    dag_id="check_quality",
    schedule=AssetAny(*landings()),
    params=choose_parties(),
    default_args=TRANSIENT_ONLY,
    tags=["ftl"],
    doc_md=__doc__,
)
def gate() -> None:
    """Mapped tasks, one per table, in the queue of the party they belong to."""
    for party in parties():
        check_quality.override(
            task_id=f"check_{party}",
            queue=party,
            max_active_tis_per_dag=1,
            inlets=[asset for table in tables(party) for asset in (landed(party, table), validated(party, table))],
            outlets=[by_party(party, "validated")],
        ).partial(party=party).expand(table=tables(party))


gate()
