"""Error responses: one table of errors, two renderers.

`problem_response` writes RFC 9457 problem details; `oci_response` writes the error document of the
OCI distribution specification ("Error Codes"). Errors of other packages contain no HTTP; only this
module maps them to a status.
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
    AccessDeniedError,
    CatalogUnavailableError,
    ConflictError,
    EncryptedSessionError,
    InvalidInputError,
    ManifestNotFoundError,
    NodeKeyMissingError,
    NotEncryptedError,
    NotFoundError,
    OutOfScopeError,
    PreconditionFailedError,
    QuotaExceededError,
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
    NotDeliverableError,
    StorageFullError,
    StorageUnavailableError,
)

MAX_DETAIL_LENGTH = 2000
RETRY_AFTER_S = 5
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_OF_CLIENTS = ("/v2", "/token")
_log = structlog.get_logger("registry.api")

Renderer = Callable[[Exception, Mapping[str, str]], web.Response]
Challenge = Callable[[web.Request, Exception], str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Response to a kind of error.

    Attributes:
        kind: Last part of the problem's type, `urn:crisper:problem:<kind>`; stable.
        code: The error code under `/v2/`.
        detail: Replaces the error's own message if callers must not get that.
    """

    status: int
    kind: str
    title: str
    code: str
    detail: str | None = None


INTERNAL = Problem(
    500,
    "internal",
    "Internal error",
    "UNKNOWN",
    "The server failed unexpectedly. Report the instance id to the operator.",
)
_REFUSED = "The credentials are missing or not valid. Check that they are complete and not revoked."
_DENIED = "These credentials give no access to the requested resource."

TABLE: Mapping[type[Exception], Problem] = {
    InvalidInputError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    ReferenceFormatError: Problem(400, "invalid-reference", "Invalid image reference", "NAME_INVALID"),
    DigestError: Problem(400, "invalid-digest", "Invalid digest", "DIGEST_INVALID"),
    RefusedError: Problem(401, "unauthorized", "Unauthorized", "UNAUTHORIZED", _REFUSED),
    OutsideScopeError: Problem(403, "forbidden", "Forbidden", "DENIED", _DENIED),
    AccessDeniedError: Problem(403, "access-denied", "Access denied", "DENIED"),
    QuotaExceededError: Problem(403, "quota-exceeded", "Quota exceeded", "DENIED"),
    NotFoundError: Problem(404, "not-found", "Not found", "NAME_UNKNOWN"),
    ManifestNotFoundError: Problem(404, "not-found", "Not found", "MANIFEST_UNKNOWN"),
    TokenNotFoundError: Problem(404, "not-found", "Not found", "NAME_UNKNOWN", "The token does not exist."),
    NotDeliverableError: Problem(
        404,
        "not-found",
        "Not found",
        "MANIFEST_UNKNOWN",
        "The image is no longer stored for encrypted delivery. Pull with another token.",
    ),
    BlobNotFoundError: Problem(404, "not-found", "Not found", "BLOB_UNKNOWN", "The blob does not exist."),
    MintRefusedError: Problem(
        409, "conflict", "Conflict", "DENIED", "The group or node was just revoked. Try again in a minute."
    ),
    CertificateRequestError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    TtlOutOfRangeError: Problem(400, "invalid-input", "Invalid input", "UNSUPPORTED"),
    ConflictError: Problem(409, "conflict", "Conflict", "DENIED"),
    NodeKeyMissingError: Problem(409, "node-key-missing", "The node has no encryption key", "DENIED"),
    NotEncryptedError: Problem(409, "image-not-encrypted", "The image is not stored encrypted", "DENIED"),
    EncryptedSessionError: Problem(403, "encrypted", "The layers are encrypted", "DENIED"),
    PreconditionFailedError: Problem(412, "precondition-failed", "Precondition failed", "DENIED"),
    RateLimitedError: Problem(429, "rate-limited", "Too many requests", "TOOMANYREQUESTS"),
    OutOfScopeError: Problem(
        501,
        "out-of-scope",
        "Out of scope",
        "UNSUPPORTED",
        "Crisper is a registry and has no queues and no inference endpoints. Use them at SaladCloud.",
    ),
    BlobRangeError: Problem(
        416, "range", "Range not satisfiable", "RANGE_INVALID", "The range is outside the blob."
    ),
    BlobDamagedError: Problem(
        500,
        "blob-damaged",
        "Damaged blob",
        "UNKNOWN",
        "The stored blob is damaged and is not served. Import its image again.",
    ),
    CatalogUnavailableError: Problem(
        503, "catalog-unavailable", "Unavailable", "UNAVAILABLE", "The catalog is unavailable. Try again."
    ),
    LedgerUnavailableError: Problem(
        503, "ledger-unavailable", "Unavailable", "UNAVAILABLE", "The ledger is unavailable. Try again."
    ),
    KeyUnavailableError: Problem(
        503, "keys-unavailable", "Unavailable", "UNAVAILABLE", "The key provider is unavailable. Try again."
    ),
    StorageUnavailableError: Problem(
        503, "storage-unavailable", "Unavailable", "UNAVAILABLE", "The storage is unavailable. Try again."
    ),
    StorageFullError: Problem(
        503, "storage-full", "Unavailable", "UNAVAILABLE", "The storage is full. Contact the operator."
    ),
    StoreFailedError: Problem(
        503, "store-failed", "Unavailable", "UNAVAILABLE", "The request could not be stored. Try again."
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
    """Return the row of the error's nearest class, or `INTERNAL`."""
    if isinstance(error, web.HTTPException) and error.status >= HTTPStatus.BAD_REQUEST:
        return _of_http(error)
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def problem_response(error: Exception, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """Render an error as `application/problem+json` (RFC 9457, section 3)."""
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
    """Render an error in the form of the OCI distribution specification, "Error Codes"."""
    problem, instance = _occurrence(error)
    entry = {"code": problem.code, "message": _detail(problem, error), "detail": {"instance": instance}}
    return web.json_response(
        {"errors": [entry]}, status=problem.status, headers=_headers(problem, error, headers)
    )


def renderer_of(request: web.Request) -> Renderer:
    """Return the renderer for a request that no application has handled yet."""
    return oci_response if request.path.startswith(_OF_CLIENTS) else problem_response


def errors_as(render: Renderer, *, challenge: Challenge) -> Middleware:
    """Return the middleware that renders all exceptions as error responses.

    After bytes of a response were sent, the exception is raised again and ends the connection: clients
    would read an error response inside the first response's body as content.

    Args:
        render: `problem_response` or `oci_response`.
        challenge: Returns the `WWW-Authenticate` header of a 401 (RFC 9110, section 11.6.1).
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
            except web.HTTPBadRequest as unreadable:  # the request's Host gives no valid realm
                return render(unreadable, NO_HEADERS)

    return answer_errors


def _of_http(error: web.HTTPException) -> Problem:
    status = HTTPStatus(error.status)
    detail = {
        HTTPStatus.NOT_FOUND: "There is no resource at this address. Check the path.",
        HTTPStatus.METHOD_NOT_ALLOWED: "The method is not supported. Use one of the header Allow.",
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
    """Return an id for this occurrence, and log it if an operator has to act.

    Only exception classes and code locations are logged: the message of a foreign exception can contain
    a request's headers or a statement's parameters.
    """
    problem, instance = problem_of(error), f"urn:uuid:{uuid4()}"
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and problem.status != HTTPStatus.NOT_IMPLEMENTED:
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
