"""The operator API's application: authentication and operations (docs/operator-api.md)."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.actor import OPERATOR_KEY as OPERATOR
from auth.actor import acting_as
from auth.errors import Cause, RefusedError
from auth.verifier import Verifier
from registry.api.endpoint import Access, Api, Part, Schema, access_of, add_operations
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, problem_response
from registry.api.key_refusals import KeyRefusals
from registry.api.openapi import OPERATOR_KEY
from registry.api.operator.events import EventsApi

PREFIX: Final = "/api/v1"
NODES_OWN: Final = frozenset({Access.SESSION, Access.ENROLMENT, Access.NODE})
"""Access to the operations that nodes call themselves."""

_WORDS: Final[Mapping[str, Schema]] = {
    name: {"type": "string", "minLength": 1, "examples": [example]}
    for name, example in {
        "organization_name": "acme-corp",
        "project_name": "dev-env",
        "container_group_name": "mandelbrot",
        "node_id": "node-7",
        "edge_name": "berlin",
        "token_id": "Yk3n0m0bWJzq1vXh2Q9C1g",
        "key_id": "0b7c9a52-6f0e-4f5c-9a55-1f5a0f0f8c11",
        "webhook_id": "6a1f6f5e-0f0b-4d55-8c5b-0a3f1f6b7c22",
        "instance_id": "db3a4591-efc3-46c0-b06a-3d820c0ec100",
    }.items()
}


def operator_app(
    parts: Sequence[Part],
    events: EventsApi,
    *,
    is_operator_key: Callable[[str], bool],
    refusals: KeyRefusals,
    verifier: Verifier,
    accesses: Container[Access] = frozenset(Access),
) -> web.Application:
    """Return the application to mount at `PREFIX`.

    Args:
        parts: Its operations, except those of the audit trail.
        accesses: Only operations that accept these credentials are served.
        is_operator_key: Compares a key with the operator's key in constant time.
        refusals: Refuses wrong keys.
    """
    problems = errors_as(problem_response, challenge=lambda *_: 'Bearer realm="crisper-operator"')
    app = web.Application(middlewares=[problems, _authenticated(is_operator_key, refusals, verifier)])
    add_operations(app, Api(PREFIX, OPERATOR_KEY, _WORDS), [*parts, events], accesses)
    app.on_shutdown.append(events.stop)
    return app


def _authenticated(
    is_operator_key: Callable[[str], bool], refusals: KeyRefusals, verifier: Verifier
) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        access = access_of(request)
        by_certificate = access is Access.NODE and hdrs.AUTHORIZATION not in request.headers
        if access is Access.ENROLMENT or by_certificate:
            return await handler(request)
        scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer":
            raise RefusedError(Cause.MALFORMED)
        if not is_operator_key(key.strip()):
            if access is not Access.SESSION:
                source = peer_of(request).source
                await refusals.refuse(Cause.FORGED, api="operator", source=source)
            await _require_own_session(request, key.strip(), verifier)
            return await handler(request)
        with acting_as(OPERATOR):
            return await handler(request)

    return authenticate


async def _require_own_session(request: web.Request, bearer: str, verifier: Verifier) -> None:
    """Allow a node to act on the token of its own session only."""
    peer = peer_of(request)
    claims = await verifier.admit(bearer, source=peer.source, peer=peer.certificate)
    if claims.session_id is None or claims.token_id != request.match_info["token_id"]:
        raise RefusedError(Cause.OUTSIDE_SCOPE)
