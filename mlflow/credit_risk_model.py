"""The registered model `credit_risk`, as MLflow loads it: asks the parties' score servers, holds no part of the model.

`mlflow models serve -m models:/credit_risk@champion --env-manager local` runs it at the coordinator. It answers with
the gateway's own numbers, because it is the gateway's own code.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

import mlflow
from ftl.consortium import load
from ftl.registry import decode_bundle
from ftl.serving import BlockingScorer


@dataclass(frozen=True)
class Settings:
    """Where the coordinator's folder is; addresses, the client certificate and the scoring key are found in it.

    The registered model remembers the folder it was registered from. `FTL_FOLDER` overrides it on another machine.
    """

    folder: Path

    @classmethod
    def read(cls, context: PythonModelContext) -> "Settings":
        """The only place that reads the environment."""
        return cls(Path(os.environ.get("FTL_FOLDER") or context.model_config["folder"]))


class CreditRisk(PythonModel):
    """Identifiers in; probability of default, score and reasons out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle and find the way to the parties; asks nobody yet."""
        path = Path(context.artifacts["bundle"])
        self._bundle = decode_bundle(path.read_bytes(), str(path))
        self._scorer = BlockingScorer(load(Settings.read(context).folder), self._bundle)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """One row per applicant, in order; None where the active party does not know the applicant."""
        names = [identifier.name for identifier in self._bundle.identifiers]
        identifiers = list(model_input[names].astype(str).itertuples(index=False, name=None))
        given = model_input.get("fields", [])
        fields = [_plain(one) if isinstance(one, dict) else {} for one in given]
        rows = [msgspec.to_builtins(row) for row in self._scorer.score(identifiers, fields)]
        return pd.DataFrame(rows).astype({"score": "Int64"}).replace({float("nan"): None})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """MLflow's signature turns some values into NumPy scalars; the parties take JSON's."""
    return {name: getattr(value, "item", lambda value=value: value)() for name, value in fields.items()}


mlflow.models.set_model(CreditRisk())
