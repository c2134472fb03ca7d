"""What the DAGs are made of: the consortium they serve, their assets, forms, steps, and when a step is tried again."""

from ftl_airflow.assets import by_party, landed, landings, model, validated, validations
from ftl_airflow.consortium import parties, tables
from ftl_airflow.federated import FederatedRunTrigger, FederatedTrainingOperator
from ftl_airflow.forms import approval_text, choose_parties, promotion_form, training_form
from ftl_airflow.retries import TRANSIENT_ONLY
from ftl_airflow.tasks import check_quality, collect, crown, finish, judge_experiment, promote

__all__ = [
    "TRANSIENT_ONLY",
    "FederatedRunTrigger",
    "FederatedTrainingOperator",
    "approval_text",
    "by_party",
    "check_quality",
    "choose_parties",
    "collect",
    "crown",
    "finish",
    "judge_experiment",
    "landed",
    "landings",
    "model",
    "parties",
    "promote",
    "promotion_form",
    "tables",
    "training_form",
    "validated",
    "validations",
]
