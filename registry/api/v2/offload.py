"""Delivery of ciphertext by something other than this process: the proxy in front of it, or another server.

Authorization, the byte budget and the audit trail stay here. What a request asks for is charged as a whole,
because nothing here sees how much of it the client reads (docs/how-to/offload-delivery.md).
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import hdrs, web

from registry.api.http.peers import peer_of
from registry.model.images import ImageContent
from storage.blobs import BlobStore

URL_LIFETIME_S: Final = 300
ACCEL_PREFIX: Final = "/_blobs/"


class Offload(Protocol):
    """Delivers ciphertext elsewhere."""

    async def respond(
        self, request: web.Request, organization: str, content: ImageContent, headers: Mapping[str, str]
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
        self, request: web.Request, organization: str, content: ImageContent, headers: Mapping[str, str]
    ) -> web.Response | None:
        """Return an empty response that nginx replaces by the stored object."""
        if not peer_of(request).proxied:
            return None
        path = await self._blobs.ciphertext_path(organization, content.stored_digest, content.digest)
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
        request: web.Request,  # noqa: ARG002 (part of the port)
        organization: str,
        content: ImageContent,
        headers: Mapping[str, str],  # noqa: ARG002
    ) -> web.Response | None:
        """Return a 307. The URL of an object store is presigned, and valid for some minutes."""
        digest = content.digest
        if self._base is None:
            url = await self._blobs.ciphertext_url(
                organization, content.stored_digest, digest, lifetime_s=URL_LIFETIME_S
            )
            if url is None:
                return None
        else:
            await self._blobs.ciphertext_path(organization, content.stored_digest, digest)
            url = f"{self._base}/{digest}"
        return web.Response(
            status=HTTPStatus.TEMPORARY_REDIRECT,
            headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"},
        )
