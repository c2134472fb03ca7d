"""Align, train, evaluate and register one model on the validated tables of all parties.

Started when every party has published new rows, or by hand with other choices. The training task holds no worker while
the parties work; its log shows every round. Tried again, it re-attaches to the run that it has started.
"""

from airflow.sdk import AssetAll, dag
from ftl_airflow import TRANSIENT_ONLY, FederatedTrainingOperator, finish, model, training_form, validations


@dag(
    schedule=AssetAll(*validations()),
    params=training_form(),
    default_args=TRANSIENT_ONLY,
    render_template_as_native_obj=True,
    max_active_runs=1,
    tags=["ftl"],
    doc_md=__doc__,
)
def train_federated() -> None:
    """The form's choices become one federated run; what comes out is registered."""
    run = FederatedTrainingOperator(
        task_id="train",
        recipe="{{ params.recipe }}",
        seed="{{ params.seed }}",
        settings="{{ params.settings }}",
        rounds="{{ params.rounds }}",
        max_shared="{{ params.max_shared }}",
        members="{{ params.parties }}",
        inlets=validations(),
    ).output
    finish.override(task_id="evaluate_and_register", outlets=[model()])(run)


train_federated()
