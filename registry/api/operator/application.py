"""The operator API's addresses (docs/operator-api.md)."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.authority import Authority
from auth.errors import Cause, RefusedError
from auth.records import TokenView
from auth.verifier import Verifier
from registry.api.http.origin import Origin
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, problem_response
from registry.api.operator import documents
from registry.api.operator.answering import respond
from registry.api.operator.nodes import CERTIFICATE
from registry.api.operator.requests import (
    NewPullToken,
    event_filters,
    whole_number,
)
from registry.api.operator.stream import EventStream
from registry.catalog.events import SqlEventLog
from registry.model.groups import GroupKey
from registry.model.images import ImageDirectory
from registry.services.pull_tokens import PullTokens

PREFIX: Final = "/api/v1"

_PAGE = 100
_MAX_PAGE = 1000


class Part(Protocol):
    """Some of the operator API's addresses."""

    def routes(self) -> Sequence[web.RouteDef]:
        """Return what to add to the operator application."""


class OperatorApi:
    """Handlers of `/api/v1`.

    Args:
        is_operator_key: Compares with the operator's key in constant time.
        parts: Organizations, nodes, instances, webhooks.
    """

    def __init__(
        self,
        *,
        is_operator_key: Callable[[str], bool],
        parts: Sequence[Part],
        tokens: PullTokens,
        images: ImageDirectory,
        authority: Authority,
        verifier: Verifier,
        events: SqlEventLog,
        origin: Origin,
    ) -> None:
        self._is_operator_key = is_operator_key
        self._parts = parts
        self._tokens = tokens
        self._images = images
        self._authority = authority
        self._verifier = verifier
        self._events = events
        self._origin = origin

    def app(self) -> web.Application:
        """Make the application to mount at `PREFIX`."""
        problems = errors_as(problem_response, challenge=lambda *_: 'Bearer realm="crisper-operator"')
        app = web.Application(middlewares=[problems, self._authenticated()])
        stream = EventStream(self._events)
        app.add_routes(
            [
                *(route for part in self._parts for route in part.routes()),
                web.post("/pull-tokens", self.mint),
                web.get("/pull-tokens/{token_id}", self.get_token, allow_head=False),
                web.delete("/pull-tokens/{token_id}", self.revoke),
                web.post("/pull-tokens/{token_id}/complete", self.complete, name="complete"),
                web.get("/images", self.list_images, allow_head=False),
                web.get("/events", self.list_events, allow_head=False),
                web.get("/events/stream", stream.handle, allow_head=False),
            ]
        )
        app.on_shutdown.append(stream.stop)
        return app

    async def mint(self, request: web.Request) -> web.Response:
        """Designate a node: mint its pull token, shown this once."""
        body = await NewPullToken.read(request)
        key = GroupKey(body.organization_name, body.project_name, body.container_group_name)
        host = self._origin.host(request)  # first: a token without a reference is of no use
        made = await self._tokens.mint(key, body.node_id, body.ttl_s, body.variant.choice)
        return respond(documents.designation(made, host), HTTPStatus.CREATED)

    async def get_token(self, request: web.Request) -> web.Response:
        """Show a token's state and its session."""
        view = await self._authority.show(request.match_info["token_id"])
        return respond(await self._shown(request, view))

    async def revoke(self, request: web.Request) -> web.Response:
        """Revoke a token and the session that it opened."""
        await self._authority.revoke(request.match_info["token_id"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def complete(self, request: web.Request) -> web.Response:
        """End a token's session: the pull is complete. The operator says so, or the session's own node."""
        view = await self._authority.complete(request.match_info["token_id"])
        return respond(await self._shown(request, view))

    async def list_images(self, request: web.Request) -> web.Response:
        """List the newest images of an organization, or of all, with what their variants gain."""
        query = request.query
        limit = min(whole_number(query.get("limit"), "limit", _PAGE), _MAX_PAGE)
        found = await self._images.list(query.get("organization_name"), limit)
        return respond({"items": [documents.image(row) for row in found]})

    async def list_events(self, request: web.Request) -> web.Response:
        """List the audit trail behind a cursor, oldest first."""
        query = request.query
        limit = min(whole_number(query.get("limit"), "limit", _PAGE), _MAX_PAGE)
        after = whole_number(query.get("after"), "after", 0)
        found = await self._events.page(after=after, limit=limit, **event_filters(request))
        next_after = found[-1].cursor if found and len(found) == limit else None
        return respond({"items": [documents.event(stored) for stored in found], "next_after": next_after})

    async def _shown(self, request: web.Request, view: TokenView) -> dict[str, object]:
        variant = await self._tokens.variant(view.repository, view.image_digest)
        return documents.token(view, variant, self._origin.host(request))

    def _authenticated(self) -> Middleware:
        @web.middleware
        async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.match_info.route.name == CERTIFICATE:
                return await handler(request)
            scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
            if scheme.lower() != "bearer":
                raise RefusedError(Cause.MALFORMED)
            if not self._is_operator_key(key.strip()):
                await self._require_own_session(request, key.strip())
            return await handler(request)

        return authenticate

    async def _require_own_session(self, request: web.Request, bearer: str) -> None:
        """Let a node report its own pull complete with its session's bearer, and nothing else."""
        if request.match_info.route.name != "complete":
            raise RefusedError(Cause.FORGED)
        peer = peer_of(request)
        claims = await self._verifier.admit(bearer, source=peer.source, peer=peer.certificate)
        if claims.session_id is None or claims.token_id != request.match_info["token_id"]:
            raise RefusedError(Cause.OUTSIDE_SCOPE)
