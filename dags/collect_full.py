"""Read every table of every party anew, from its source into the party's lake.

Start it by hand: once at the beginning, and after a source was rebuilt or a mapping changed. What has landed starts
`check_quality`. A table that has not moved since is left alone.
"""

from airflow.sdk import dag
from ftl_airflow import TRANSIENT_ONLY, by_party, choose_parties, collect, landed, parties, tables


@dag(
    schedule=None, params=choose_parties(), default_args=TRANSIENT_ONLY, max_active_runs=1, tags=["ftl"], doc_md=__doc__
)
def collect_full() -> None:
    """Mapped tasks, one per table, in the queue of the party they belong to."""
    for party in parties():
        collect.override(
            task_id=f"collect_{party}",
            queue=party,
            inlets=[landed(party, table) for table in tables(party)],
            outlets=[by_party(party, "landed")],
        ).partial(party=party, mode="full").expand(table=tables(party))


collect_full()
