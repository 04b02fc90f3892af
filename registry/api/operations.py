"""What an address does, as the OpenAPI document tells it (`registry.api.openapi`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"

#: What any address may answer, because of who asks, how, or what does not answer here.
ALWAYS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
#: What an address that takes a body may answer besides.
WITH_BODY: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or a header. Those of the path are known by their names."""

    name: str
    description: str
    schema: Schema
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address answers when all is well.

    Attributes:
        model: The document; None where there is no body.
        media_type: Where it is not JSON; then without a model.
        headers: Name to what it says.
        also: Media types that it answers in instead, to those who accept them.
    """

    status: HTTPStatus
    description: str
    model: type[BaseModel] | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    also: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address.

    Attributes:
        id: Stable name, unique in the document.
        errors: The statuses of problems that it may answer, besides `ALWAYS` and, with a body, `WITH_BODY`.
        security: Names of the schemes of which one is needed; empty means that anybody may ask.
    """

    id: str
    summary: str
    answer: Answer
    description: str = ""
    body: type[BaseModel] | None = None
    body_types: Sequence[str] = (JSON,)
    parameters: Sequence[Parameter] = ()
    errors: Sequence[HTTPStatus] = ()
    security: Sequence[str] = ()
    tag: str = ""

    def problems(self) -> Sequence[HTTPStatus]:
        """Return the statuses of all problems that it may answer."""
        asked = {*self.errors, *(ALWAYS if self.security else ALWAYS[1:])}
        return sorted({*asked, *(WITH_BODY if self.body else ())})
