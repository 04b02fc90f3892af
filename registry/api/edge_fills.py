"""What edge caches read: ciphertext of layers, by digest, with their own key (docs/how-to/edge-cache.md)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from cachetools import LRUCache

from auth.delivery import MeteredDelivery
from auth.errors import Cause, OutsideScopeError
from auth.networks import within
from auth.ports import AuditTrail, TokenLedger
from registry.api.http.conditions import OCTETS, has_it, head, headers_of, range_header
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, problem_response
from registry.api.http.streaming import BlobStreamer
from registry.api.key_refusals import KeyRefusals
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.api.v2.offload import Handover
from registry.audit.types import RegistryEventType
from registry.model.edges import Ciphertext, Ciphertexts, Edge
from registry.model.images import ContentKind, ImageContent
from registry.observe import Metrics
from registry.pull.ranges import ByteRange, parse_ranges
from registry.services.edges import Edges, edge_event
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import BlobNotFoundError, BlobRangeError

PREFIX: Final = "/edge"

_FILLS: Final = 16_384
_FRESH_S: Final = 24 * 3600
"""An edge asks again for what it has after this time, so that it drops replaced ciphertext (rekey)."""


class EdgeFills:
    """Handlers for edges.

    Args:
        edges: Finds an edge by its key.
        ciphertexts: Ciphertexts of all organizations.
        blobs: Store of the blobs.
        streamer: Sends blobs.
        limit: Limits an edge's responses.
        watch: Reports damaged blobs.
        refusals: Refuses wrong keys.
        trail: Records that an edge begins to fetch a layer: once, if it asks one process again.
        ledger: Not called: no token pays for these bytes.
    """

    def __init__(
        self,
        *,
        edges: Edges,
        ciphertexts: Ciphertexts,
        blobs: BlobStore,
        streamer: BlobStreamer,
        limit: NodeConcurrencyLimit,
        watch: DamageWatch,
        refusals: KeyRefusals,
        trail: AuditTrail,
        ledger: TokenLedger,
        metrics: Metrics,
    ) -> None:
        self._edges = edges
        self._ciphertexts = ciphertexts
        self._blobs = blobs
        self._streamer = streamer
        self._limit = limit
        self._watch = watch
        self._refusals = refusals
        self._trail = trail
        self._ledger = ledger
        self._metrics = metrics
        self._recorded: LRUCache[tuple[str, Digest], bool] = LRUCache(_FILLS)

    def app(self) -> web.Application:
        """Return the application to mount at `PREFIX`. It has one resource."""
        problems = errors_as(problem_response, challenge=lambda *_: 'Bearer realm="crisper-edge"')
        app = web.Application(middlewares=[problems])
        app.router.add_get("/blobs/{digest}", self.get)
        return app

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Respond with ciphertext, or a range of it."""
        edge = await self._admit(request)
        found = await self._ciphertexts.find(Digest.parse(request.match_info["digest"]))
        if found is None:
            raise BlobNotFoundError
        content = ImageContent(
            found.digest, ContentKind.LAYER, OCTETS, found.size_bytes, plaintext=found.plaintext
        )
        headers = headers_of(content, OCTETS) | {
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.CACHE_CONTROL: f"public, max-age={_FRESH_S}",
        }
        if has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return head(headers, found.size_bytes)
        ranges = parse_ranges(range_header(request, content), found.size_bytes)
        if len(ranges) > 1:
            raise BlobRangeError("several ranges")
        await self._record(edge, found, peer_of(request).source)
        span = ranges[0] if ranges else ByteRange(0, content.size_bytes)
        handover = Handover(found.organization, content, edge.name, (span,))
        return await self._send(request, handover, headers, partial=bool(ranges))

    async def _admit(self, request: web.Request) -> Edge:
        """Return the edge that sent a request.

        Raises:
            RefusedError: It has no valid key.
            OutsideScopeError: It may not fetch from this address.
        """
        source = peer_of(request).source
        scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        edge = await self._edges.find(key.strip()) if scheme.lower() == "bearer" else None
        if edge is None:
            await self._refusals.refuse(Cause.FORGED, api="edge", source=source)
        if edge.networks and not within(source, edge.networks):
            raise OutsideScopeError(Cause.WRONG_NETWORK)
        return edge

    async def _record(self, edge: Edge, ciphertext: Ciphertext, source: str) -> None:
        if (edge.name, ciphertext.digest) not in self._recorded:
            digest = str(ciphertext.digest)
            await self._trail.record(
                edge_event(RegistryEventType.EDGE_FILLED, edge.name, source, digest=digest)
            )
            self._recorded[edge.name, ciphertext.digest] = True

    async def _send(
        self, request: web.Request, handover: Handover, headers: Mapping[str, str], *, partial: bool
    ) -> web.StreamResponse:
        organization, content, (span,) = handover.organization, handover.content, handover.spans
        sent = self._metrics.edge_bytes.labels(handover.session)
        meter = MeteredDelivery(self._ledger, "", "", blob=None, length=span.length, granted=span.length)
        with self._limit.response(handover.session) as turns:
            async with self._watch.reading(organization, content.stored_digest):
                async with turns:
                    reader = await self._blobs.open_ciphertext(
                        organization, content.stored_digest, content.digest
                    )
                async with reader:
                    try:
                        return await self._streamer.send(
                            request, reader, [(span, meter)], headers, turns=turns, partial=partial
                        )
                    finally:
                        sent.inc(meter.bytes_sent)
