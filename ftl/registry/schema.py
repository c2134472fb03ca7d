"""What the registered model takes and gives, in MLflow's terms."""

from typing import Any

from ftl.registry.bundle import Bundle

TYPES = {
    "string": "string",
    "int64": "long",
    "float64": "double",
    "bool": "boolean",
    "date": "string",
    "timestamp": "string",
}
"""Lake type to MLflow's type of a JSON value; dates and times travel as ISO 8601 text."""


def signature(bundle: Bundle) -> Any:
    """Identifiers as text and optional request fields in; probability, score, reasons out.

    Args:
        bundle: of the version.

    Returns:
        mlflow.models.ModelSignature.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    identifiers = [ColSpec(DataType.string, one.name) for one in bundle.identifiers]
    fields = [Property(name, DataType[TYPES[kind]], required=False) for name, kind in bundle.fields.items()]
    optional = [ColSpec(Object(fields), "fields", required=False)] if fields else []
    reason = Object(
        [
            Property("code", DataType.string),
            Property("text", DataType.string),
            Property("points", DataType.double),
            Property("text_zh", DataType.string, required=False),
        ]
    )
    outputs = [
        ColSpec(DataType.double, "probability_of_default"),
        ColSpec(DataType.long, "score"),
        ColSpec(Array(reason), "reasons"),
        ColSpec(DataType.boolean, "degraded"),
        ColSpec(DataType.string, "why"),
    ]
    return ModelSignature(inputs=Schema([*identifiers, *optional]), outputs=Schema(outputs))


def input_example(bundle: Bundle) -> Any:
    """One row that names nobody.

    Args:
        bundle: of the version.

    Returns:
        pandas.DataFrame with one column per identifier.
    """
    import pandas as pd

    return pd.DataFrame([{one.name: f"EXAMPLE-{one.name.upper()}" for one in bundle.identifiers}])
