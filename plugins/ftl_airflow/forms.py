"""The trigger forms: what a person may choose when starting a DAG by hand."""

from importlib.metadata import entry_points

from airflow.sdk import Param

from ftl_airflow.consortium import declared, parties


def choose_parties() -> dict[str, Param]:
    """Which parties take part; all by default."""
    every = parties()
    return {
        "parties": Param(
            every, type="array", items={"type": "string", "enum": every}, examples=every, title="Parties", minItems=1
        )
    }


def training_form() -> dict[str, Param]:
    """Recipe, parties, cap on shared rows, rounds, seed and further settings; defaults from `consortium.yaml`."""
    training = declared().training
    recipes = sorted({training.recipe, *(entry.name for entry in entry_points(group="ftl.recipes"))})
    return {
        "recipe": Param(training.recipe, type="string", enum=recipes, title="Recipe"),
        "max_shared": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Shared rows cap",
            description="Train on at most so many shared people. Empty: on all.",
        ),
        "rounds": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Rounds",
            description="Empty: as consortium.yaml or the recipe says.",
        ),
        "seed": Param(training.seed, type="integer", minimum=0, title="Seed"),
        "settings": Param(
            {},
            type="object",
            title="Further settings",
            description="Passed to the recipe, which checks them; they go before those in consortium.yaml.",
        ),
        **choose_parties(),
    }


def promotion_form() -> dict[str, Param]:
    """Which version, and why."""
    return {
        "version": Param(type="string", pattern="^[0-9]+$", title="Version", description="As MLflow numbers it."),
        "reason": Param(type="string", minLength=3, title="Reason", description="Kept with the version."),
    }


def approval_text() -> str:
    """What the approver reads."""
    return (
        f"Version {{{{ params.version }}}} of **{declared().training.model_name}** would answer from now on.\n\n"
        "Reason given: {{ params.reason }}"
    )
