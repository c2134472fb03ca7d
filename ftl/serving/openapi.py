"""OpenAPI 3.1 of the gateway, generated from the structs that check its requests."""

from typing import Any

import msgspec

import ftl
from ftl.serving.asgi import TITLES, Problem
from ftl.serving.messages import Health, Models, ScoreResponse


def openapi(request: type[msgspec.Struct], consortium: str, notice: str | None) -> dict[str, Any]:
    """The description that `/openapi.json` serves.

    Args:
        request: struct of `POST /v1/scores`.
        consortium: name, for the title.
        notice: what is simulated, if anything.
    """
    types = [request, ScoreResponse, Models, Health, Problem]
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    asked, scored, models, health, problem = references
    about = "Scores applicants with a model whose parts, and the data behind them, stay with their owners."
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Credit scores of {consortium}",
            "version": ftl.__version__,
            "description": f"{about} {notice}" if notice else about,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            "/v1/scores": {"post": _score(asked, scored, problem)},
            "/v1/models": {
                "get": _operation("listModels", "The model versions that answer now", models, problem, [401, 503])
            },
            "/healthz": {"get": _open("health", "Whether the gateway runs", health, problem, [])},
            "/readyz": {"get": _open("ready", "Whether the gateway can score", health, problem, [503])},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _score(asked: Any, scored: Any, problem: Any) -> dict[str, Any]:
    operation = _operation("score", "Score one applicant", scored, problem, [400, 401, 404, 413, 422, 500, 503])
    operation["description"] = (
        "Asks all parties at the same time. When a party other than the active one is late or down, the active party "
        "alone scores, and the answer is marked `degraded`. 404: the active party does not know the applicant."
    )
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    return operation


def _open(name: str, summary: str, answer: Any, problem: Any, statuses: list[int]) -> dict[str, Any]:
    return {**_operation(name, summary, answer, problem, statuses), "security": []}


def _operation(name: str, summary: str, answer: Any, problem: Any, statuses: list[int]) -> dict[str, Any]:
    refused = {"application/problem+json": {"schema": problem}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": answer}}},
            **{str(status): {"description": TITLES[status], "content": refused} for status in statuses},
        },
    }
