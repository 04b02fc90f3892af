"""What callers are told when something goes wrong: one table, two renderers.

`problem_response` writes RFC 9457 problem details; `oci_response` writes the error document of the
OCI distribution specification ("Error Codes"). Errors below know nothing of HTTP; this is the only
place that gives them a status.
"""

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from auth.errors import (
    CertificateRequestError,
    LedgerUnavailableError,
    MintRefusedError,
    OutsideScopeError,
    RefusedError,
    TokenNotFoundError,
    TtlOutOfRangeError,
)
from registry.errors import (
    CatalogUnavailableError,
    ConflictError,
    InvalidInputError,
    ManifestNotFoundError,
    NotFoundError,
    PreconditionFailedError,
    RateLimitedError,
    ReferenceFormatError,
    StoreFailedError,
)
from storage.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    BlobRangeError,
    DigestError,
    KeyUnavailableError,
    StorageFullError,
    StorageUnavailableError,
)

MAX_DETAIL_LENGTH = 2000
RETRY_AFTER_S = 5
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_log = structlog.get_logger("registry.api")

Renderer = Callable[[Exception, Mapping[str, str]], web.Response]
Challenge = Callable[[web.Request, Exception], str]


@dataclass(frozen=True, slots=True)
class Problem:
    """How a kind of error is answered.

    Attributes:
        kind: Last part of the problem's type, `urn:crisper:problem:<kind>`; stable.
        code: The error code under `/v2/`.
        detail: Said instead of the error's own message, where that is not meant for the caller.
    """

    status: int
    kind: str
    title: str
    code: str
    detail: str | None = None


INTERNAL = Problem(
    500, "internal", "Internal error", "UNKNOWN", "Something went wrong here; quote the instance to support."
)
_REFUSED = "Authentication is required, or what was presented is not accepted."
_DENIED = "These credentials do not reach what was asked for."

TABLE: Mapping[type[Exception], Problem] = {
    InvalidInputError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    ReferenceFormatError: Problem(400, "invalid-reference", "Invalid image reference", "NAME_INVALID"),
    DigestError: Problem(400, "invalid-digest", "Invalid digest", "DIGEST_INVALID"),
    RefusedError: Problem(401, "unauthorized", "Unauthorized", "UNAUTHORIZED", _REFUSED),
    OutsideScopeError: Problem(403, "forbidden", "Forbidden", "DENIED", _DENIED),
    NotFoundError: Problem(404, "not-found", "Not found", "NAME_UNKNOWN"),
    ManifestNotFoundError: Problem(404, "not-found", "Not found", "MANIFEST_UNKNOWN"),
    TokenNotFoundError: Problem(404, "not-found", "Not found", "NAME_UNKNOWN", "There is no such token."),
    BlobNotFoundError: Problem(404, "not-found", "Not found", "BLOB_UNKNOWN", "There is no such blob."),
    MintRefusedError: Problem(
        409, "conflict", "Conflict", "DENIED", "The group or node was revoked a moment ago; try again later."
    ),
    CertificateRequestError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    TtlOutOfRangeError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    ConflictError: Problem(409, "conflict", "Conflict", "DENIED"),
    PreconditionFailedError: Problem(412, "precondition-failed", "Precondition failed", "DENIED"),
    RateLimitedError: Problem(429, "rate-limited", "Too many requests", "TOOMANYREQUESTS"),
    BlobRangeError: Problem(
        416, "range", "Range not satisfiable", "RANGE_INVALID", "The range lies outside the blob."
    ),
    BlobDamagedError: Problem(
        500,
        "blob-damaged",
        "Damaged blob",
        "UNKNOWN",
        "The stored blob is damaged and is not served; its image has to be imported anew.",
    ),
    CatalogUnavailableError: Problem(
        503, "catalog-unavailable", "Unavailable", "UNAVAILABLE", "The catalog does not answer."
    ),
    LedgerUnavailableError: Problem(
        503, "ledger-unavailable", "Unavailable", "UNAVAILABLE", "The token ledger does not answer."
    ),
    KeyUnavailableError: Problem(
        503, "keys-unavailable", "Unavailable", "UNAVAILABLE", "The key provider does not answer."
    ),
    StorageUnavailableError: Problem(
        503, "storage-unavailable", "Unavailable", "UNAVAILABLE", "Storage does not answer."
    ),
    StorageFullError: Problem(503, "storage-full", "Unavailable", "UNAVAILABLE", "Storage takes no more."),
    StoreFailedError: Problem(
        503, "store-failed", "Unavailable", "UNAVAILABLE", "What was sent could not be kept; try again."
    ),
}

_OF_STATUS = {
    400: "UNSUPPORTED",
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "NAME_UNKNOWN",
    405: "UNSUPPORTED",
    415: "UNSUPPORTED",
    429: "TOOMANYREQUESTS",
    503: "UNAVAILABLE",
}


def problem_of(error: BaseException) -> Problem:
    """Return how an error is answered: the row of its nearest class, or `INTERNAL`."""
    if isinstance(error, web.HTTPException) and error.status >= HTTPStatus.BAD_REQUEST:
        return _of_http(error)
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def problem_response(error: Exception, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """Answer an error as `application/problem+json` (RFC 9457, section 3)."""
    problem, instance = _occurrence(error)
    body: dict[str, object] = {
        "type": f"urn:crisper:problem:{problem.kind}",
        "title": problem.title,
        "status": problem.status,
        "detail": _detail(problem, error),
        "instance": instance,
    }
    if isinstance(error, InvalidInputError) and error.fields:
        body["errors"] = error.fields
    return web.json_response(
        body,
        status=problem.status,
        headers=_headers(problem, error, headers),
        content_type="application/problem+json",
    )


def oci_response(error: Exception, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """Answer an error as the OCI distribution specification has it, "Error Codes"."""
    problem, instance = _occurrence(error)
    entry = {"code": problem.code, "message": _detail(problem, error), "detail": {"instance": instance}}
    return web.json_response(
        {"errors": [entry]}, status=problem.status, headers=_headers(problem, error, headers)
    )


def errors_as(render: Renderer, *, challenge: Challenge) -> Middleware:
    """Make the middleware that answers every exception through one of the two renderers.

    Once bytes of a response have left, the exception goes on and ends the connection: a second
    response inside the first one's body would be taken for content.

    Args:
        render: `problem_response` or `oci_response`.
        challenge: Makes the `WWW-Authenticate` of a 401 (RFC 9110, section 11.6.1).
    """

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            redirects = isinstance(error, web.HTTPException) and error.status < HTTPStatus.BAD_REQUEST
            if redirects or request.writer.output_size > 0:
                raise
            if problem_of(error).status != HTTPStatus.UNAUTHORIZED:
                return render(error, NO_HEADERS)
            try:
                return render(error, {"WWW-Authenticate": challenge(request, error)})
            except web.HTTPBadRequest as unreadable:  # no realm can be named under the request's Host
                return render(unreadable, NO_HEADERS)

    return answer_errors


def _of_http(error: web.HTTPException) -> Problem:
    status = HTTPStatus(error.status)
    detail = {
        HTTPStatus.NOT_FOUND: "Nothing is served at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take that method.",
    }.get(status, error.text or status.phrase)
    kind = status.phrase.lower().replace(" ", "-")
    return Problem(status, kind, status.phrase, _OF_STATUS.get(status, "UNKNOWN"), detail)


def _detail(problem: Problem, error: Exception) -> str:
    text = problem.detail if problem.detail is not None else str(error)
    return text[:MAX_DETAIL_LENGTH] or problem.title


def _headers(problem: Problem, error: Exception, extra: Mapping[str, str]) -> dict[str, str]:
    headers = {"Cache-Control": "no-store", **extra}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = error.headers["Allow"]
    return headers


def _occurrence(error: Exception) -> tuple[Problem, str]:
    """Name this occurrence, and log it where an operator has to act.

    Only the classes and the places of what went wrong are logged: the message of a foreign exception
    can hold a request's headers or a statement's parameters.
    """
    problem, instance = problem_of(error), f"urn:uuid:{uuid4()}"
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error(
            "request failed",
            status=problem.status,
            instance=instance,
            error=[type(cause).__qualname__ for cause in _causes(error)],
            where=[f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)],
        )
    return problem, instance


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
