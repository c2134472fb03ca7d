"""A federated training run as a task: it is submitted, the task steps aside, and a trigger follows it round by round.

The run is named after the DAG run. A task that is tried again therefore finds its run and re-attaches to it; only when
the run itself has failed for good does a cleared task start another one, under the next number.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from ftl.errors import FtlError
from ftl_airflow.consortium import steps
from ftl_airflow.retries import rebuilt

SUBMISSION = "submission"
"""Key in the task's state store: number of the run that this task has submitted or will submit."""
FINISHED, FAILED = "finished", "failed"


class FederatedTrainingOperator(BaseOperator):
    """Submits a training run and waits for it without holding a worker.

    Args:
        recipe: name of the recipe.
        seed: of the run's draws.
        settings: the recipe's settings.
        rounds: the setting of that name; None leaves it to the recipe.
        max_shared: use at most so many shared training people; None for all.
        members: parties that take part; None or empty for all.
        kwargs: as for every operator.

    Returns:
        the run's id.
    """

    template_fields = ("recipe", "seed", "settings", "rounds", "max_shared", "members")

    def __init__(
        self,
        *,
        recipe: str,
        seed: Any,
        settings: Any,
        rounds: Any = None,
        max_shared: Any = None,
        members: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.recipe = recipe
        self.seed = seed
        self.settings = settings
        self.rounds = rounds
        self.max_shared = max_shared
        self.members = members

    def execute(self, context: Any) -> None:
        """Submit the run, or find the one that was submitted before, and step aside."""
        run_id = run_id_of(context["dag_run"].run_id, context["task_state_store"].get(SUBMISSION, 1))
        work = steps()
        settings = {**self.settings, **({} if self.rounds is None else {"rounds": self.rounds})}
        work.submit(
            work.request(
                run_id,
                recipe=self.recipe,
                seed=self.seed,
                settings=settings,
                max_shared=self.max_shared,
                parties=self.members or (),
            )
        )
        self.log.info("run %s is submitted; its rounds follow", run_id)
        self.defer(trigger=FederatedRunTrigger(run_id=run_id), method_name="resume")

    def resume(self, context: Any, event: dict[str, Any]) -> str:
        """Called when the trigger has seen the end of the run.

        Args:
            context: of the task.
            event: what the trigger said.

        Returns:
            the run's id.

        Raises:
            FtlError: the run failed; as it was raised where the run was watched.
        """
        if event["state"] == FINISHED:
            return str(event["run_id"])
        error = rebuilt(event["code"], event["message"], event["cure"])
        if not error.transient:
            store = context["task_state_store"]
            store.set(SUBMISSION, store.get(SUBMISSION, 1) + 1)
        raise error


class FederatedRunTrigger(BaseTrigger):
    """Follows a run until it ends; every round is a line in the task's log.

    Args:
        run_id: of the run.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments with which another process can go on."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"run_id": self.run_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch, and fire one event at the end."""
        from ftl.pipeline.run import line

        try:
            lines = await asyncio.to_thread(self._watched)
            while (progress := await asyncio.to_thread(partial(next, lines, None))) is not None:
                self.log.info(line(progress))
        except FtlError as error:
            told = {"code": error.code, "message": error.message, "cure": error.cure}
            yield TriggerEvent({"state": FAILED, "run_id": self.run_id, **told})
            return
        yield TriggerEvent({"state": FINISHED, "run_id": self.run_id})

    def _watched(self) -> Iterator[Any]:
        """In a thread, because it waits and talks to MLflow."""
        return steps().watch(self.run_id)


def run_id_of(dag_run: str, submission: int) -> str:
    """The name of a DAG run's n-th federated run: the same whenever it is asked for."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", dag_run).strip("-")
    return name if submission == 1 else f"{name}-{submission}"
