"""A task with a button that leads from the DAG run to the party's Data Docs, whether the task succeeded or failed."""

from collections.abc import Callable
from typing import Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import BaseOperatorLink, conf
from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory


def docs_of(party: str) -> str:
    """Address of a party's Data Docs, behind Airflow's own authentication."""
    return f"{conf.get_mandatory_value('api', 'base_url')}/consortium/docs/{party}/index.html"


class DataDocsLink(BaseOperatorLink):
    """The button of a task that has an argument `party`."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Where it leads."""
        return docs_of(operator.op_kwargs["party"])


class _WithDataDocs(_PythonDecoratedOperator):
    operator_extra_links = (DataDocsLink(),)


def task_with_docs(python_callable: Callable[..., Any] | None = None, **settings: Any) -> TaskDecorator:
    """As `airflow.sdk.task`, with the button."""
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_WithDataDocs, multiple_outputs=None, **settings
    )
