"""The OpenAPI 3.1 document of both APIs, generated from their operations (`registry.api.endpoint`)."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, cast

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from registry.api.endpoint import API, Access, Api, Operation, Schema, Served, served_by
from registry.api.http.bodies import JSON
from registry.api.http.problem_document import ProblemDocument
from registry.api.validation import Query

API_KEY: Final = "api_key"
OPERATOR_KEY: Final = "operator_key"
SESSION_BEARER: Final = "session_bearer"
ENROLMENT_SECRET: Final = "enrolment_secret"  # noqa: S105 (a name)
NODE_CERTIFICATE: Final = "node_certificate"

#: Each security scheme by its name; a node's credentials are of one node, and of one session.
_SCHEMES: Final[Mapping[str, Schema]] = {
    API_KEY: {"type": "apiKey", "in": "header", "name": "Salad-Api-Key"},
    OPERATOR_KEY: {"type": "http", "scheme": "bearer"},
    SESSION_BEARER: {"type": "http", "scheme": "bearer"},
    ENROLMENT_SECRET: {"type": "http", "scheme": "bearer"},
    NODE_CERTIFICATE: {"type": "mutualTLS"},
}

_PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"
_WORD: Final[Schema] = {"type": "string"}
_ABOUT: Final = (
    "The public API of container groups, compatible with SaladCloud's, and the operator API: "
    "organizations, nodes, pull tokens, webhooks and the audit trail."
)
#: Errors of every operation: credentials, malformed requests, unavailable dependencies.
_ALWAYS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
#: Additional errors of an operation with a body.
_WITH_BODY: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)

_Refs = Mapping[tuple[type[BaseModel], JsonSchemaMode], Any]


def document(apps: Iterable[web.Application]) -> dict[str, Any]:
    """Return the document of all applications that have operations."""
    found = [
        (app[API], served)
        for app in apps
        if API in app
        for route in app.router.routes()
        if (served := served_by(route)) is not None
    ]
    refs, schemas = _schemas([served.operation for _, served in found])
    paths: dict[str, dict[str, object]] = {}
    for api, served in found:
        endpoint = served.operation.endpoint
        methods = paths.setdefault(api.prefix + endpoint.path, {})
        methods[endpoint.method.lower()] = _operation(api, served, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crisper", "version": version("crisper-registry"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": _SCHEMES,
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[_Refs, dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemDocument, "serialization")]
    for operation in operations:
        if operation.body is not None:
            wanted.append((operation.body, "validation"))
        if operation.answer is not None:
            wanted.append((operation.answer, "serialization"))
    refs, defined = models_json_schema(tuple(dict.fromkeys(wanted)), ref_template=_REF)
    return cast("_Refs", refs), defined["$defs"]


def _operation(api: Api, served: Served, refs: _Refs) -> dict[str, object]:
    operation, endpoint = served.operation, served.operation.endpoint
    written: dict[str, object] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [served.tag],
        "parameters": [*_in_path(api, endpoint.path), *_in_query(operation.query), *_in_headers(operation)],
        "responses": {
            str(endpoint.status): _answer(operation, refs),
            **{str(int(status)): _problem(status, refs) for status in _problems(api, operation)},
        },
        "security": [{scheme: []} for scheme in _accepted(api, endpoint.access)],
    }
    if operation.description:
        written["description"] = operation.description
    if operation.body is not None:
        schema = refs[operation.body, "validation"]
        content = {media_type: {"schema": schema} for media_type in endpoint.body_types}
        written["requestBody"] = {"required": True, "content": content}
    return written


def _accepted(api: Api, access: Access) -> Sequence[str]:
    """Return the security schemes that an operation accepts, each of them alone."""
    return {
        Access.KEY: (api.security,),
        Access.SESSION: (api.security, SESSION_BEARER),
        Access.ENROLMENT: (ENROLMENT_SECRET, NODE_CERTIFICATE),
        Access.NODE: (api.security, NODE_CERTIFICATE),
    }[access]


def _problems(api: Api, operation: Operation) -> Iterable[HTTPStatus]:
    with_body = _WITH_BODY if operation.body else ()
    return map(HTTPStatus, sorted({*operation.endpoint.errors, *api.errors, *_ALWAYS, *with_body}))


def _in_path(api: Api, path: str) -> Iterable[dict[str, object]]:
    for name in (part.partition("}")[0] for part in path.split("{")[1:]):
        schema = api.path_schemas.get(name, _WORD)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(query: type[Query] | None) -> Iterable[dict[str, object]]:
    for name, property_ in (query.model_json_schema()["properties"] if query else {}).items():
        schema = {
            key: value for key, value in property_.items() if key not in {"default", "description", "title"}
        }
        yield {"name": name, "in": "query", "description": property_["description"], "schema": schema}


def _in_headers(operation: Operation) -> Iterable[dict[str, object]]:
    for header in operation.endpoint.reads:
        yield {"name": header.name, "in": "header", "description": header.description, "schema": _WORD}


def _answer(operation: Operation, refs: _Refs) -> dict[str, object]:
    endpoint = operation.endpoint
    written: dict[str, object] = {"description": endpoint.returns}
    if endpoint.headers:
        written["headers"] = {
            name: {"description": text, "schema": _WORD} for name, text in endpoint.headers.items()
        }
    content: dict[str, object] = {}
    if operation.answer is not None:
        content[JSON] = {"schema": refs[operation.answer, "serialization"]}
    if operation.streams:
        content |= {media_type: {"schema": _WORD} for media_type in endpoint.streams}
    if content:
        written["content"] = content
    return written


def _problem(status: HTTPStatus, refs: _Refs) -> dict[str, object]:
    written: dict[str, object] = {
        "description": status.phrase,
        "content": {_PROBLEM: {"schema": refs[ProblemDocument, "serialization"]}},
    }
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        written["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": _WORD}}
    return written
