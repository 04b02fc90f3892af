"""Delivery of ciphertext by something other than this process: the proxy in front of it, or another server.

Authorization, the byte budget and the audit trail stay here. What a request asks for is charged as a whole,
because nothing here sees how much of it the client reads (docs/how-to/offload-delivery.md).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import hdrs, web

from registry.api.http.peers import peer_of
from registry.model.edges import EDGE_HEADER, NO_EDGE
from registry.model.images import ImageContent
from registry.pull.nearest_edge import NearestEdge
from registry.pull.ranges import ByteRange
from storage.blobs import BlobStore

URL_LIFETIME_S: Final = 300
ACCEL_PREFIX: Final = "/_blobs/"


@dataclass(frozen=True, slots=True)
class Handover:
    """What is left to another server.

    Attributes:
        content: The ciphertext of a layer.
        session: Whose request it is: the id of a token, or the name of an edge.
        spans: Parts that the request asks for.
    """

    organization: str
    content: ImageContent
    session: str
    spans: tuple[ByteRange, ...]


class Offload(Protocol):
    """Delivers ciphertext elsewhere."""

    async def respond(
        self, request: web.Request, handover: Handover, headers: Mapping[str, str]
    ) -> web.Response | None:
        """Return the response that leaves the body to another server; None to send the body from here.

        Args:
            headers: Headers of a response with the body.

        Raises:
            StorageError: As for `BlobStore.open_ciphertext`.
        """


class AccelOffload:
    """Has nginx send the stored object (`X-Accel-Redirect`). A client without nginx between gets the body."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def respond(
        self, request: web.Request, handover: Handover, headers: Mapping[str, str]
    ) -> web.Response | None:
        """Return an empty response that nginx replaces by the stored object."""
        if not peer_of(request).proxied:
            return None
        content = handover.content
        path = await self._blobs.ciphertext_path(handover.organization, content.stored_digest, content.digest)
        return web.Response(headers={**headers, "X-Accel-Redirect": f"{ACCEL_PREFIX}{path}"})


class RedirectOffload:
    """Redirects the client to another server.

    Args:
        base: URL of a cache; the blob's digest is appended. None redirects to the object store.
    """

    def __init__(self, blobs: BlobStore, base: str | None) -> None:
        self._blobs = blobs
        self._base = base.rstrip("/") if base else None

    async def respond(
        self,
        request: web.Request,
        handover: Handover,
        headers: Mapping[str, str],  # noqa: ARG002 (part of the port)
    ) -> web.Response | None:
        """Return a 307. The URL of an object store is presigned, and valid for some minutes."""
        organization, content = handover.organization, handover.content
        if self._base is None:
            url = await self._blobs.ciphertext_url(
                organization, content.stored_digest, content.digest, lifetime_s=URL_LIFETIME_S
            )
        elif wants_no_edge(request):
            url = None
        else:
            await self._blobs.ciphertext_path(organization, content.stored_digest, content.digest)
            url = f"{self._base}/{content.digest}"
        return None if url is None else _redirect(url)


class EdgeOffload:
    """Redirects a node to the edge near it, and everybody else as `otherwise` does.

    A session whose edge has failed gets its layers from here. So does a client that uses edges itself, and
    says so with `Crisper-Edge: none`.

    Args:
        may_leave: Whether an edge may send a session (first argument) a part of a layer (second one).
        otherwise: For nodes without an edge; None sends the bytes from here.
    """

    def __init__(
        self,
        nearest: NearestEdge,
        blobs: BlobStore,
        may_leave: Callable[[str, str], Awaitable[bool]],
        otherwise: Offload | None,
    ) -> None:
        self._nearest = nearest
        self._blobs = blobs
        self._may_leave = may_leave
        self._otherwise = otherwise

    async def respond(
        self, request: web.Request, handover: Handover, headers: Mapping[str, str]
    ) -> web.Response | None:
        """Return a 307 to the node's edge, or what `otherwise` returns."""
        edge = None if wants_no_edge(request) else await self._nearest.of(peer_of(request).source)
        if edge is not None:
            content = handover.content
            part = f"{content.digest}:{','.join(str(span.start) for span in handover.spans)}"
            if await self._may_leave(handover.session, part):
                stored = (handover.organization, content.stored_digest, content.digest)
                await self._blobs.ciphertext_path(*stored)
                return _redirect(edge.blob_url(content.digest))
        return await self._otherwise.respond(request, handover, headers) if self._otherwise else None


def wants_no_edge(request: web.Request) -> bool:
    """Return whether a client asks for no redirect to an edge or cache."""
    return request.headers.get(EDGE_HEADER, "").lower() == NO_EDGE


def _redirect(url: str) -> web.Response:
    headers = {hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)
