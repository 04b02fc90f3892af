"""Blobs and ranges of them (distribution-spec, "Pulling blobs"; RFC 9110, section 14)."""

from contextlib import AsyncExitStack
from http import HTTPStatus

from aiohttp import hdrs, web

from registry.api.http.conditions import OCTETS, has_it, head, headers_of, range_header
from registry.api.http.problems import oci_response
from registry.api.http.streaming import BlobStreamer
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.gate import Admitted, BlobParts, Gate, Granted, MeteredRoute
from registry.api.v2.offload import Handover, Offload
from registry.model.images import ImageContent
from registry.pull.ranges import parse_ranges
from registry.pull.resolve import ImageResolver
from registry.pull.session_image import SessionImage
from storage.blobs import BlobStore
from storage.errors import BlobNotFoundError, BlobRangeError, DigestError
from storage.read.reader import BlobReader


class Blobs:
    """Handlers of blobs."""

    def __init__(
        self,
        gate: Gate,
        resolver: ImageResolver,
        blobs: BlobStore,
        streamer: BlobStreamer,
        watch: DamageWatch,
        *,
        offload: Offload | None,
    ) -> None:
        self._gate = gate
        self._resolver = resolver
        self._blobs = blobs
        self._streamer = streamer
        self._watch = watch
        self._offload = offload

    def routes(self) -> list[MeteredRoute]:
        """Return the routes for the gate."""
        return [MeteredRoute("/{name:.+}/blobs/{reference}", self.select, self.deliver, self.describe)]

    def select(self, request: web.Request, image: SessionImage) -> BlobParts | None:
        """Return what a GET delivers; None if `describe` answers the request."""
        try:
            content = self._resolver.blob(image, request.match_info["reference"])
            if content is None or has_it(request, content):
                return None
            return BlobParts(content, parse_ranges(range_header(request, content), content.size_bytes))
        except (BlobRangeError, DigestError):
            return None

    async def deliver(
        self,
        request: web.Request,
        admitted: Admitted,
        wanted: BlobParts,
        granted: Granted,
    ) -> web.StreamResponse:
        """Respond 200 with a blob, or 206 with ranges of it."""
        organization, content = admitted.claims.organization, wanted.content
        digest = content.stored_digest
        if content.plaintext is not None and self._offload is not None:
            handover = Handover(organization, content, admitted.claims.token_id, wanted.spans)
            elsewhere = await self._offload.respond(request, handover, _headers(content))
            if elsewhere is not None:
                for span, meter in zip(wanted.spans, granted.meters, strict=True):
                    meter.sent(span.start, span.length)
                return elsewhere
        async with self._watch.reading(organization, digest), AsyncExitStack() as stack:
            async with granted.turns:
                reader = await stack.enter_async_context(await self._open(organization, content))
            return await self._streamer.send(
                request,
                reader,
                list(zip(wanted.spans, granted.meters, strict=True)),
                _headers(content),
                turns=granted.turns,
                partial=bool(wanted.ranges),
            )

    async def _open(self, organization: str, content: ImageContent) -> BlobReader:
        if content.plaintext is None:
            return await self._blobs.open(organization, content.digest)
        return await self._blobs.open_ciphertext(organization, content.plaintext, content.digest)

    async def describe(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """Respond to HEAD, and to a GET that delivers no bytes: 404, 304 or 416."""
        content = self._resolver.blob(admitted.image, request.match_info["reference"])
        if content is None:
            await self._gate.record_outside(request, admitted)
            raise BlobNotFoundError
        if has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_headers(content))
        if request.method == hdrs.METH_HEAD:
            return head(_headers(content), content.size_bytes)
        size = f"bytes */{content.size_bytes}"
        return oci_response(BlobRangeError("the range is outside the blob"), {hdrs.CONTENT_RANGE: size})


def _headers(content: ImageContent) -> dict[str, str]:
    headers = headers_of(content, OCTETS) | {hdrs.ACCEPT_RANGES: "bytes"}
    if content.plaintext is not None:  # ciphertext, the same for every node
        headers[hdrs.CACHE_CONTROL] = "private, max-age=31536000, immutable"
    return headers
