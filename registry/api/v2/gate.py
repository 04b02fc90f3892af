"""Access control of `/v2/`: a handler runs only after the ledger has admitted its request.

A route is declared as `Route` or `MeteredRoute`, and its handler requires an `Admitted`, which only this
module can create. An application with any other route does not start.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from cachetools import LRUCache

from auth.claims import SessionClaims
from auth.delivery import MeteredDelivery
from auth.errors import Cause, OutsideScopeError, RefusedError
from auth.verifier import Verifier
from registry.api.http.closed_router import closed_to
from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, oci_response
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.errors import NotFoundError, ReferenceFormatError
from registry.model.edges import EDGE_HEADER
from registry.model.images import ContentKind, ImageContent
from registry.oci.reference import is_repository
from registry.pull.nearest_edge import NearestEdge
from registry.pull.ranges import ByteRange
from registry.pull.session_image import SessionImage

_CLAIMS: Final = web.RequestKey("claims", SessionClaims)
_REPOSITORY: Final = re.compile(
    r"/v2/((?:[a-z0-9][a-z0-9._-]*/)+[a-z0-9][a-z0-9._-]*)/(?:manifests|blobs|tags|referrers)/"
)
_READS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_CHARGED_BYTES: Final = 64 << 10
_SESSIONS: Final = 4096
_METERED: Final = frozenset({ContentKind.CONFIG, ContentKind.LAYER})


class _Capability:
    """Capability that is required to create an `Admitted`; private to this module."""


_CAPABILITY: Final = _Capability()


class Admitted:
    """A request that the ledger has admitted.

    Attributes:
        claims: Claims of the session.
        image: Image of the session, the only one that this request may read.
    """

    __slots__ = ("claims", "image")

    def __init__(self, capability: _Capability, claims: SessionClaims, image: SessionImage) -> None:
        if capability is not _CAPABILITY:
            raise TypeError("Only the gate admits requests: declare a Route and take its Admitted.")
        self.claims = claims
        self.image = image


@dataclass(frozen=True, slots=True)
class BlobParts:
    """What a GET will deliver of a blob.

    Attributes:
        ranges: Requested ranges; none for the whole blob.
    """

    content: ImageContent
    ranges: tuple[ByteRange, ...]

    @property
    def spans(self) -> tuple[ByteRange, ...]:
        """Ranges to deliver, each with a meter of its own."""
        return self.ranges or (ByteRange(0, self.content.size_bytes),)


@dataclass(frozen=True, slots=True)
class Granted:
    """What the ledger and the node's limit grant to a response.

    Attributes:
        meters: One for each span to deliver.
        turns: Entered for each piece of work, and left while the response waits for its client.
    """

    meters: Sequence[MeteredDelivery]
    turns: AbstractAsyncContextManager[None]


@dataclass(frozen=True, slots=True)
class Route:
    """Route for GET and HEAD whose responses contain no blob bytes.

    Attributes:
        path: Path below `/v2`, with `{name:.+}` for the repository.
    """

    path: str
    handler: Callable[[web.Request, Admitted], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class MeteredRoute:
    """Route whose GET delivers bytes that count against the session's budget.

    Attributes:
        select: Returns what a GET would deliver, to be requested from the ledger; None if no bytes.
        deliver: Delivers the selected spans, each within the bytes granted to its meter.
        describe: Responds to all other requests: HEAD, and a GET without bytes.
    """

    path: str
    select: Callable[[web.Request, SessionImage], BlobParts | None]
    deliver: Callable[[web.Request, Admitted, BlobParts, Granted], Awaitable[web.StreamResponse]]
    describe: Callable[[web.Request, Admitted], Awaitable[web.StreamResponse]]


class ImageSource(Protocol):
    """Finds the images of sessions (`registry.pull.session_images.SessionImages`)."""

    async def of(self, claims: SessionClaims, repository: str, digest: str) -> SessionImage | None:
        """Return a session's image in its repository; None if it was deleted."""


class Gate:
    """Verifies the bearer token, checks the session's scope, and calls the ledger once per request.

    Args:
        verifier: Verifies bearer tokens and checks them in the ledger.
        images: Finds the session's image.
        limit: Limits a node's metered responses.
        origin: Address of the realm, for challenges.
        pacing: Sends large documents.
        edges: Finds the edge near a node, which the version check names; None if there are no edges.
    """

    def __init__(
        self,
        verifier: Verifier,
        images: ImageSource,
        limit: NodeConcurrencyLimit,
        origin: Origin,
        *,
        pacing: Pacing,
        edges: NearestEdge | None = None,
    ) -> None:
        self._verifier = verifier
        self._images = images
        self._limit = limit
        self._origin = origin
        self._pacing = pacing
        self._edges = edges
        self._uncharged: LRUCache[str, int] = LRUCache(_SESSIONS)
        self._keyed: LRUCache[str, bool] = LRUCache(_SESSIONS)

    def app(self, routes: Iterable[Route | MeteredRoute]) -> web.Application:
        """Return the application to mount at `/v2`. All its errors are rendered as OCI errors."""
        app = web.Application(
            middlewares=[
                errors_as(oci_response, challenge=self._challenge),
                _reads_only,
                _with_slash,
                self._authenticated(),
            ]
        )
        app.on_response_prepare.append(_name_version)
        app.router.add_get("/", _Version(self._edges).respond)
        for route in routes:
            if isinstance(route, Route):
                app.router.add_get(route.path, _Guarded(self, route.handler).respond)
            else:
                resource = app.router.add_resource(route.path)
                resource.add_route(hdrs.METH_HEAD, _Guarded(self, route.describe).respond)
                resource.add_route(hdrs.METH_GET, _Metered(self, route).respond)
        app.on_startup.append(
            closed_to((_Guarded, _Version), "Declare it as a Route of registry/api/v2/gate.py.")
        )
        return app

    async def admit(
        self, request: web.Request, handler: Callable[[web.Request, Admitted], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Admit the request in the ledger and run the handler."""
        claims, image_digest = await self._scope(request)
        await self._begin(request, claims)
        image = await self._images.of(claims, request.match_info["name"], image_digest)
        return await self._respond(request, _admitted(claims, image), handler)

    async def admit_metered(self, request: web.Request, route: MeteredRoute) -> web.StreamResponse:
        """Reserve the selected bytes in the ledger, deliver them, and release the rest."""
        claims, image_digest = await self._scope(request)
        image = await self._images.of(claims, request.match_info["name"], image_digest)
        wanted = route.select(request, image) if image is not None else None
        if wanted is None:
            await self._begin(request, claims)
            return await self._respond(request, _admitted(claims, image), route.describe)
        with self._limit.response(claims.node_id) as turns:
            deliveries: list[MeteredDelivery] = []
            try:
                for span in wanted.spans:  # keep those that have begun if a later one is refused
                    delivery = await self._begin(request, claims, wanted.content, span)
                    deliveries.append(delivery)
                    if wanted.content.kind not in _METERED:
                        await self._charge(request, claims, span.length)
                return await route.deliver(
                    request, _admitted(claims, image), wanted, Granted(deliveries, turns)
                )
            finally:
                for delivery in deliveries:
                    await asyncio.shield(delivery.finish())

    async def _respond(
        self,
        request: web.Request,
        admitted: Admitted,
        handler: Callable[[web.Request, Admitted], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Run a handler whose response is in memory, charge it, and send it if it is large."""
        with self._limit.response(admitted.claims.node_id) as turns:
            async with turns:
                response = await handler(request, admitted)
            if request.method == hdrs.METH_GET and isinstance(response, web.Response):
                body = response.body
                if isinstance(body, bytes) and response.status == HTTPStatus.OK:
                    await self._charge(request, admitted.claims, len(body))
                if self._pacing.pace(response):
                    await response.prepare(request)
                    await response.write_eof()
            return response

    async def _charge(self, request: web.Request, claims: SessionClaims, length_bytes: int) -> None:
        """Charge a document. Small ones are charged together, because the ledger's writes wait for a disk."""
        due = self._uncharged.pop(claims.token_id, 0) + length_bytes
        if due < _CHARGED_BYTES:
            self._uncharged[claims.token_id] = due
        else:
            await self._begin(request, claims, length_bytes=due)

    async def record_outside(self, request: web.Request, admitted: Admitted) -> None:
        """Record a request for content outside the session's image, whether it exists or not."""
        with suppress(OutsideScopeError):
            await self._refuse(request, admitted.claims)

    async def record_keyed(self, request: web.Request, admitted: Admitted) -> None:
        """Record that the node gets the keys of its layers: once, if it asks one process again."""
        token_id = admitted.claims.token_id
        if token_id not in self._keyed:
            peer = peer_of(request)
            await self._verifier.record_keyed(admitted.claims, source=peer.source, peer=peer.certificate)
            self._keyed[token_id] = True

    async def _scope(self, request: web.Request) -> tuple[SessionClaims, str]:
        """Return the session and its image's digest. Raises OutsideScopeError: it is another repository."""
        claims, name = request[_CLAIMS], request.match_info["name"]
        if not is_repository(name):
            raise ReferenceFormatError("The repository name is not valid.")
        if claims.repository != name or claims.image_digest is None:
            await self._refuse(request, claims)
        return claims, claims.image_digest

    async def _refuse(self, request: web.Request, claims: SessionClaims) -> NoReturn:
        await self._verifier.refuse(claims, Cause.OUTSIDE_SCOPE, source=peer_of(request).source)

    async def _begin(
        self,
        request: web.Request,
        claims: SessionClaims,
        content: ImageContent | None = None,
        span: ByteRange | None = None,
        *,
        length_bytes: int = 0,
    ) -> MeteredDelivery:
        peer = peer_of(request)
        metered = content is not None and content.kind in _METERED
        try:
            return await self._verifier.begin(
                claims,
                repository=request.match_info["name"],
                digest=str(content.stored_digest) if content and metered else None,
                length_bytes=span.length if span else length_bytes,
                blob=metered,
                source=peer.source,
                peer=peer.certificate,
            )
        except RefusedError as refusal:
            if (
                refusal.cause is Cause.OVER_BUDGET
            ):  # after a 401, clients would exchange their token in a loop
                raise OutsideScopeError(refusal.cause) from None
            raise

    def _authenticated(self) -> Middleware:
        @web.middleware
        async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
            scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
            if scheme.lower() != "bearer":
                raise RefusedError(Cause.MALFORMED)  # the first request of every pull gets no event
            peer = peer_of(request)
            request[_CLAIMS] = await self._verifier.admit(
                bearer.strip(), source=peer.source, peer=peer.certificate
            )
            return await handler(request)

        return authenticate

    def _challenge(self, request: web.Request, _error: Exception) -> str:
        """Return `WWW-Authenticate` (RFC 6750, section 3; distribution's token scheme)."""
        parts = [f'realm="{self._origin.url(request)}/token"', f'service="{self._origin.service}"']
        if repository := _REPOSITORY.match(request.path):
            parts.append(f'scope="repository:{repository[1]}:pull"')
        if request.headers.get(hdrs.AUTHORIZATION, "").lower().startswith("bearer"):
            parts.append('error="invalid_token"')
        return "Bearer " + ",".join(parts)


class _Guarded:
    """Route handlers for aiohttp. Its methods are the only handlers of the application."""

    def __init__(
        self, gate: Gate, handler: Callable[[web.Request, Admitted], Awaitable[web.StreamResponse]]
    ) -> None:
        self._gate = gate
        self._handler = handler

    async def respond(self, request: web.Request) -> web.StreamResponse:
        return await self._gate.admit(request, self._handler)


class _Version:
    """Version check (distribution-spec, "Determining Support"), which names the edge near the node."""

    def __init__(self, edges: NearestEdge | None) -> None:
        self._edges = edges

    async def respond(self, request: web.Request) -> web.Response:
        edge = await self._edges.of(peer_of(request).source) if self._edges else None
        return web.json_response({}, headers={EDGE_HEADER: edge.url} if edge else None)


class _Metered(_Guarded):
    def __init__(self, gate: Gate, route: MeteredRoute) -> None:
        super().__init__(gate, route.describe)
        self._route = route

    async def respond(self, request: web.Request) -> web.StreamResponse:
        return await self._gate.admit_metered(request, self._route)


def _admitted(claims: SessionClaims, image: SessionImage | None) -> Admitted:
    if image is None:
        raise NotFoundError("The repository was deleted.")
    return Admitted(_CAPABILITY, claims, image)


@web.middleware
async def _reads_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method not in _READS:
        raise web.HTTPMethodNotAllowed(request.method, _READS)
    return await handler(request)


@web.middleware
async def _with_slash(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Redirect `/v2` to `/v2/`, before authentication."""
    if request.path == "/v2":
        raise web.HTTPPermanentRedirect("/v2/")
    return await handler(request)


async def _name_version(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the API version, which clients check on responses of any status."""
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
