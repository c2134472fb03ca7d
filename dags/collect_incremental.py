"""Bring what is new and changed at every party's sources since the last sync, once an hour.

Where a table has no cursor, or has not been synced before, it is read in full. Only tables with news start
`check_quality`.
"""

from airflow.sdk import dag
from ftl_airflow import TRANSIENT_ONLY, by_party, choose_parties, collect, landed, parties, tables


@dag(
    schedule="17 * * * *",
    catchup=False,
    params=choose_parties(),
    default_args=TRANSIENT_ONLY,
    max_active_runs=1,
    tags=["ftl"],
    doc_md=__doc__,
)
def collect_incremental() -> None:
    """Mapped tasks, one per table, in the queue of the party they belong to."""
    for party in parties():
        collect.override(
            task_id=f"collect_{party}",
            queue=party,
            inlets=[landed(party, table) for table in tables(party)],
            outlets=[by_party(party, "landed")],
        ).partial(party=party, mode="incremental").expand(table=tables(party))


collect_incremental()
