"""Make a registered version the champion, once a person has approved it.

Start it by hand with the version and the reason. The approval waits under "Required Actions" and holds no worker.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag
from ftl_airflow import TRANSIENT_ONLY, approval_text, model, promote, promotion_form


@dag(schedule=None, params=promotion_form(), default_args=TRANSIENT_ONLY, tags=["ftl"], doc_md=__doc__)
def promote_model() -> None:
    """Approval first, promotion after it; a refusal skips the promotion."""
    approval = ApprovalOperator(
        task_id="approve",
        subject="Make version {{ params.version }} the champion?",
        body=approval_text(),
        response_timeout=timedelta(days=7),
    )
    promote.override(outlets=[model()])(approval.output, "{{ params.version }}", "{{ params.reason }}")


promote_model()
