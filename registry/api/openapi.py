"""The OpenAPI 3.1 document of the two APIs, made from their routes, their models and `Operation`s."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, cast

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from registry.api.http.problem_document import ProblemDocument
from registry.api.operations import Answer, Operation, Parameter, Schema

API_KEY: Final = "api_key"
OPERATOR_KEY: Final = "operator_key"

_PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"
_WORD: Final[Schema] = {"type": "string"}
_ABOUT: Final = (
    "Container groups in the shapes of SaladCloud's public API, and the operator's side of Crisper: "
    "organizations, nodes, pull tokens, webhooks and the audit trail."
)

Operations = Mapping[tuple[str, str], Operation]
"""What each method of each path does; paths without their application's prefix."""


@dataclass(frozen=True, slots=True)
class Documented:
    """Routes, and what they do.

    Attributes:
        prefix: Where they are mounted.
        words: Schemas of the parameters in paths, by name; those that are not here are any text.
    """

    prefix: str
    routes: Iterable[web.AbstractRoute]
    operations: Operations
    words: Mapping[str, Schema]


def document(parts: Sequence[Documented]) -> dict[str, Any]:
    """Make the document. Routes that no operation tells about are left out."""
    found = [
        (part, path, method, part.operations[method, path])
        for part in parts
        for method, path in _addresses(part)
        if (method, path) in part.operations
    ]
    refs, schemas = _schemas([operation for *_, operation in found])
    paths: dict[str, dict[str, object]] = {}
    for part, path, method, operation in found:
        told = _operation(operation, path, part.words, refs)
        paths.setdefault(part.prefix + path, {})[method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crisper", "version": version("crisper-registry"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                API_KEY: {"type": "apiKey", "in": "header", "name": "Salad-Api-Key"},
                OPERATOR_KEY: {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _addresses(part: Documented) -> Iterable[tuple[str, str]]:
    for route in part.routes:
        if route.resource is not None:
            yield route.method, route.resource.canonical.removeprefix(part.prefix)


_Refs = Mapping[tuple[type[BaseModel], JsonSchemaMode], Any]


def _schemas(operations: Sequence[Operation]) -> tuple[_Refs, dict[str, Any]]:
    asked: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemDocument, "serialization")]
    for operation in operations:
        if operation.body is not None:
            asked.append((operation.body, "validation"))
        if operation.answer.model is not None:
            asked.append((operation.answer.model, "serialization"))
    refs, defined = models_json_schema(tuple(dict.fromkeys(asked)), ref_template=_REF)
    return cast("_Refs", refs), defined["$defs"]


def _operation(
    operation: Operation, path: str, words: Mapping[str, Schema], refs: _Refs
) -> dict[str, object]:
    told: dict[str, object] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_in_path(path, words), *map(_parameter, operation.parameters)],
        "responses": {
            str(int(operation.answer.status)): _answer(operation.answer, refs),
            **{str(int(status)): _problem(status, refs) for status in operation.problems()},
        },
        "security": [{name: []} for name in operation.security],
    }
    if operation.description:
        told["description"] = operation.description
    if operation.body is not None:
        schema = refs[operation.body, "validation"]
        content = {media_type: {"schema": schema} for media_type in operation.body_types}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _in_path(path: str, words: Mapping[str, Schema]) -> list[dict[str, object]]:
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    return [
        {"name": name, "in": "path", "required": True, "schema": words.get(name, _WORD)} for name in names
    ]


def _parameter(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _answer(answer: Answer, refs: _Refs) -> dict[str, object]:
    told: dict[str, object] = {"description": answer.description}
    if answer.headers:
        told["headers"] = {
            name: {"description": text, "schema": _WORD} for name, text in answer.headers.items()
        }
    if answer.model is not None:
        told["content"] = {
            answer.media_type: {"schema": refs[answer.model, "serialization"]},
            **{media_type: {"schema": _WORD} for media_type in answer.also},
        }
    elif answer.media_type != "application/json":
        told["content"] = {answer.media_type: {"schema": _WORD}}
    return told


def _problem(status: HTTPStatus, refs: _Refs) -> dict[str, object]:
    told: dict[str, object] = {
        "description": status.phrase,
        "content": {_PROBLEM: {"schema": refs[ProblemDocument, "serialization"]}},
    }
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        wait = {"description": "Seconds to wait.", "schema": _WORD}
        told["headers"] = {"Retry-After": wait}
    return told
