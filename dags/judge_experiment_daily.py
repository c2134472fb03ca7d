"""Look at the experiment under way, once a day, and promote a winner once a person has approved it.

Looking often does no harm: the test's p-value may be read at any time. Under the policy `automatic` a winner is
promoted at once, under `never` not at all; under `ask` the approval waits under "Required Actions".
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag
from ftl_airflow import TRANSIENT_ONLY, crown, judge_experiment, model


@dag(schedule="41 6 * * *", catchup=False, default_args=TRANSIENT_ONLY, max_active_runs=1, tags=["ftl"], doc_md=__doc__)
def judge_experiment_daily() -> None:
    """Verdict first, then approval, then promotion; each later step is skipped without the one before it."""
    verdict = judge_experiment()
    approval = ApprovalOperator(
        task_id="approve",
        subject="Make the winner of the experiment the champion?",
        body="{{ ti.xcom_pull(task_ids='judge_experiment')['reason'] }}",
        response_timeout=timedelta(days=7),
    )
    verdict >> approval  # type: ignore[operator]
    crown.override(outlets=[model()])(approval.output, verdict)


judge_experiment_daily()
