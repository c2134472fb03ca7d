"""The local executor with workers that start warm."""

from importlib import import_module

from airflow.executors.local_executor import LocalExecutor

LIBRARIES = ("ftl.pipeline.steps", "great_expectations.expectations", "mlflow", "sklearn.ensemble")
"""What the steps import: about twelve seconds of processor time, otherwise paid in part by every task."""


class WarmLocalExecutor(LocalExecutor):
    """Imports the steps' libraries once; workers and tasks are forks and share them.

    Only modules are loaded here, nothing is opened or started, so that nothing is shared that must not be.
    """

    def start(self) -> None:
        """Import, then start the workers."""
        for name in LIBRARIES:
            import_module(name)
        super().start()
