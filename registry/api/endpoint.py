"""Declaration of an API operation: its route, documentation, body, query, response and errors.

    @Endpoint("POST", "/organizations", "The organization, and its first API key.", status=201)
    async def create_organization(self, call: Call[NewOrganization]) -> CreatedOrganization:
        '''Create an organization.'''

The method's name is the operation's id, its docstring the documentation; its signature names the body (the
type of `call`), the query (a second parameter) and the response. `registry.api.openapi` writes the document
from the same declaration. An operation without documentation fails when its module is imported.
"""

import inspect
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import hdrs, web
from pydantic import BaseModel

from registry.api.http.bodies import JSON, MAX_BODY_BYTES, read_text
from registry.api.http.closed_router import closed_to
from registry.api.http.peers import peer_of
from registry.api.validation import Query, read_json
from registry.model.access import KeyScope

B = TypeVar("B", bound=BaseModel | None)
D = TypeVar("D", bound=BaseModel)
F = TypeVar("F", bound=Callable[..., Awaitable[object]])

Schema = Mapping[str, object]

EVENT_STREAM: Final = "text/event-stream"

_OPERATION: Final = "__operation__"


class Access(Enum):
    """Credentials that an operation accepts."""

    KEY = "holders of the API's key"
    SESSION = "holders of the API's key, and the session's own node by its bearer"
    ENROLMENT = "a node's enrolment secret, or its certificate; the handler checks them"
    NODE = "holders of the API's key; without `Authorization`, a node's certificate, which the handler checks"


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One request to an operation.

    Attributes:
        body: The validated body; None for an operation without one.
    """

    request: web.Request
    body: B

    @property
    def source(self) -> str:
        """The caller's network address, for the audit trail."""
        return peer_of(self.request).source

    def path(self, name: str) -> str:
        """Return a path parameter."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Reply(Generic[D]):
    """A response document with additional headers."""

    document: D
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Header:
    """A header that an operation reads."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Decorator that declares a handler's operation, with the properties that its signature does not contain.

    Attributes:
        path: Below the application's prefix.
        returns: Description of the response, for the OpenAPI document.
        errors: Statuses of its problem responses, in addition to those of every operation.
        body_types: Media types of the body.
        reads: Request headers that it reads.
        headers: Response headers: descriptions by name.
        streams: Media types of a response that is no JSON document.
        scope: Scope that an API key needs; by default `read` for GET, and `deploy` for all others.
    """

    method: str
    path: str
    returns: str
    status: int = 200
    errors: Sequence[int] = ()
    body_types: Sequence[str] = (JSON,)
    reads: Sequence[Header] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    streams: Sequence[str] = (EVENT_STREAM,)
    access: Access = Access.KEY
    scope: KeyScope | None = None

    @property
    def required_scope(self) -> KeyScope:
        """Scope that an API key needs."""
        return self.scope or (KeyScope.READ if self.method == "GET" else KeyScope.DEPLOY)

    def __call__(self, handler: F) -> F:
        """Declare the handler's operation. Raises TypeError: a docstring or a type annotation is missing."""
        setattr(handler, _OPERATION, _operation(self, handler))
        return handler


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint with its handler, documentation and types.

    Attributes:
        id: Stable name, unique in the document.
        answer: Type of the JSON response; None if there is none.
        streams: Whether it returns another response than JSON. With a JSON response too, `Accept` decides.
    """

    endpoint: Endpoint
    id: str
    summary: str
    description: str
    body: type[BaseModel] | None
    query: type[Query] | None
    answer: type[BaseModel] | None
    streams: bool


class Part(Protocol):
    """Operations of one noun, methods of one class."""

    tag: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Api:
    """Common properties of all operations of an application.

    Attributes:
        prefix: Path at which the application is mounted.
        security: Name of the security scheme in the OpenAPI document.
        path_schemas: Schemas of path parameters, by name. A parameter without a schema accepts any text.
        errors: Statuses of errors that every operation may return, in addition to those that it declares.
        body_limit_bytes: Maximum size of a request body.
    """

    prefix: str
    security: str
    path_schemas: Mapping[str, Schema]
    errors: Sequence[int] = ()
    body_limit_bytes: int = MAX_BODY_BYTES


API: Final = web.AppKey("api", Api)


class Served:
    """Handler of an operation's route."""

    def __init__(
        self, operation: Operation, handler: Callable[..., Awaitable[Any]], tag: str, api: Api
    ) -> None:
        self.operation = operation
        self.tag = tag
        self._handler = handler
        self._limit_bytes = api.body_limit_bytes

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Validate the request, run the handler, and write its result as the response."""
        operation = self.operation
        query = [operation.query.read(request.query)] if operation.query else []
        body = await self._body(request, operation.body) if operation.body else None
        answer = await self._handler(Call(request, body), *query)
        if isinstance(answer, web.StreamResponse):
            return answer
        headers: dict[str, str] = {hdrs.CACHE_CONTROL: "no-store"}
        if isinstance(answer, Reply):
            headers |= answer.headers
            answer = answer.document
        status = operation.endpoint.status
        if answer is None:
            return web.Response(status=status)
        text = answer.model_dump_json(by_alias=True)
        return web.Response(text=text, status=status, headers=headers, content_type=JSON)

    async def _body(self, request: web.Request, model: type[BaseModel]) -> BaseModel:
        media_types = self.operation.endpoint.body_types
        return read_json(model, await read_text(request, media_types, limit_bytes=self._limit_bytes))


def add_operations(
    app: web.Application, api: Api, parts: Iterable[Part], accesses: Container[Access] = frozenset(Access)
) -> None:
    """Add the operations of the parts. Any other route prevents the application from starting.

    Args:
        accesses: Only operations that accept these credentials are added.
    """
    app[API] = api
    for served in (served for part in parts for served in _served(part, api)):
        endpoint = served.operation.endpoint
        if endpoint.access in accesses:
            app.router.add_route(endpoint.method, endpoint.path, served.respond)
    app.on_startup.append(closed_to(Served, "Declare it with Endpoint (registry/api/endpoint.py)."))


def served_by(route: web.AbstractRoute) -> Served | None:
    """Return the operation of a route, or None."""
    owner = getattr(route.handler, "__self__", None)
    return owner if isinstance(owner, Served) else None


def operation_of(request: web.Request) -> Operation | None:
    """Return the requested operation; None if the address has none."""
    owner = getattr(request.match_info.handler, "__self__", None)
    return owner.operation if isinstance(owner, Served) else None


def access_of(request: web.Request) -> Access:
    """Return the credentials that the requested operation accepts; `KEY` if the address has no operation."""
    operation = operation_of(request)
    return operation.endpoint.access if operation else Access.KEY


def _served(part: Part, api: Api) -> Iterable[Served]:
    for name, member in vars(type(part)).items():
        operation = getattr(member, _OPERATION, None)
        if operation is not None:
            yield Served(operation, getattr(part, name), part.tag, api)


def _operation(endpoint: Endpoint, handler: Callable[..., Awaitable[object]]) -> Operation:
    summary, _, description = (inspect.getdoc(handler) or "").partition("\n\n")
    name = handler.__qualname__
    if not summary or not endpoint.returns:
        raise TypeError(f"{name} is an API operation without documentation: write a docstring for it.")
    hints = get_type_hints(handler)
    if "call" not in hints or "return" not in hints:
        raise TypeError(f"{name} is an API operation without types: annotate `call` and the answer.")
    (body,) = get_args(hints["call"])
    answers = [_document(part) for part in get_args(hints["return"]) or (hints["return"],)]
    if get_origin(hints["return"]) is Reply:
        answers = [_document(hints["return"])]
    models = [answer for answer in answers if issubclass(answer, BaseModel)]
    return Operation(
        endpoint,
        id=handler.__name__,
        summary=" ".join(summary.split()).removesuffix("."),
        description=" ".join(description.split()),
        body=None if body is type(None) else body,
        query=hints.get("query"),
        answer=models[0] if models else None,
        streams=any(issubclass(answer, web.StreamResponse) for answer in answers),
    )


def _document(annotation: Any) -> type:  # noqa: ANN401 (any annotation)
    """Return the class of the response document, which a `Reply` wraps."""
    found: type = get_args(annotation)[0] if get_origin(annotation) is Reply else annotation
    return found
