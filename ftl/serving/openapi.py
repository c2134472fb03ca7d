"""OpenAPI 3.1 of the gateway, generated from the structs that check its requests."""

from typing import Any

import msgspec

import ftl
from ftl.serving.asgi import TITLES, Problem
from ftl.serving.clients import Grant
from ftl.serving.messages import Accepted, BatchResponse, DecisionResponse, Health, Models, ScoreResponse

SCORE_PROBLEMS = [400, 401, 403, 404, 409, 413, 422, 429, 500, 503]

_SCOPES = {
    "scores": "One score, and batches of scores.",
    "decisions": "Decisions by every service; the code of a service, such as `full.1`, is a scope for it alone.",
    "outcomes": "Telling what became of applicants.",
    "models": "Which versions answer; pages of experiments.",
}
_TOKEN = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": _SCOPES}}}

_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that was sent before under the same key is refused.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def openapi(
    request: type[msgspec.Struct],
    batch: type[msgspec.Struct],
    decision: type[msgspec.Struct],
    outcomes: type[msgspec.Struct],
    consortium: str,
    notice: str | None,
) -> dict[str, Any]:
    """The description that `/openapi.json` serves.

    Args:
        request: struct of `POST /v1/scores`.
        batch: struct of `POST /v1/scores:batch`.
        decision: struct of `POST /v1/decisions`.
        outcomes: struct of `POST /v1/outcomes`.
        consortium: name, for the title.
        notice: what is simulated, if anything.
    """
    types = [
        request,
        batch,
        decision,
        outcomes,
        ScoreResponse,
        BatchResponse,
        DecisionResponse,
        Accepted,
        Grant,
        Models,
        Health,
        Problem,
    ]
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    asked, several, wanted, told, scored, all_scored, decided, accepted, grant, models, health, problem = references
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
            "/v1/scores:batch": {"post": _batch(several, all_scored, problem)},
            "/v1/decisions": {"post": _decision(wanted, decided, problem)},
            "/v1/outcomes": {"post": _outcomes(told, accepted, problem)},
            "/oauth/token": {"post": _token(grant, problem)},
            "/v1/models": {
                "get": _operation(
                    "listModels", "The model versions that answer now", models, problem, [401, 403, 429, 503]
                )
            },
            "/healthz": {"get": _open("health", "Whether the gateway runs", health, problem, [])},
            "/readyz": {"get": _open("ready", "Whether the gateway can score", health, problem, [503])},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": _TOKEN}},
    }


def _score(asked: Any, scored: Any, problem: Any) -> dict[str, Any]:
    operation = _operation("score", "Score one applicant", scored, problem, SCORE_PROBLEMS)
    operation["description"] = (
        "Asks all parties at the same time. When a party other than the active one is late or down, the active party "
        "alone scores, and the answer is marked `degraded`. 404: the active party does not know the applicant."
    )
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    operation["parameters"] = [_IDEMPOTENCY]
    return operation


def _batch(asked: Any, scored: Any, problem: Any) -> dict[str, Any]:
    operation = _operation("scoreBatch", "Score up to 10,000 applicants", scored, problem, SCORE_PROBLEMS)
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    operation["parameters"] = [_IDEMPOTENCY]
    return operation


def _decision(asked: Any, decided: Any, problem: Any) -> dict[str, Any]:
    problems = [400, 401, 403, 409, 413, 422, 429, 500, 503]
    operation = _operation("decide", "Decide on an application", decided, problem, problems)
    operation["description"] = (
        "Scores, applies the policy that counts today, and answers decision, limit and price. The service code says "
        "which of it is done; a service without scores asks no party. What cannot be scored, an abnormal score and "
        "a failure while deciding are referred to a person, each with a code of its own."
    )
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    operation["parameters"] = [_IDEMPOTENCY]
    return operation


def _outcomes(told: Any, accepted: Any, problem: Any) -> dict[str, Any]:
    operation = _operation(
        "tellOutcomes", "Tell what became of applicants", accepted, problem, [401, 403, 413, 422, 429, 500, 503]
    )
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": told}}}
    return operation


def _token(grant: Any, problem: Any) -> dict[str, Any]:
    operation = _open("token", "Get a token for a client's id and secret", grant, problem, [401, 403, 422])
    text = {"type": "string"}
    form = {
        "type": "object",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials"]},
            "client_id": text,
            "client_secret": text,
            "scope": text,
        },
    }
    operation["requestBody"] = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}}
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
