"""Responses of the proxy: blobs, which end early if they are damaged, and errors."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from registry.errors import (
    DecoderError,
    LayerDamagedError,
    ProxyAccessError,
    RegistryError,
    RegistryRefusedError,
)
from registry.pull.ranges import ByteRange
from storage.digest import Digest
from storage.errors import BlobRangeError, DigestError

_ERRORS: Final[Mapping[type[Exception], tuple[HTTPStatus, str]]] = {
    DigestError: (HTTPStatus.BAD_REQUEST, "DIGEST_INVALID"),
    BlobRangeError: (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "UNSUPPORTED"),
    ProxyAccessError: (HTTPStatus.FORBIDDEN, "DENIED"),
    RegistryRefusedError: (HTTPStatus.FORBIDDEN, "DENIED"),
    DecoderError: (HTTPStatus.FORBIDDEN, "DENIED"),
}
"""Status and code (distribution-spec, "Error Codes"). All other errors may be temporary: 502."""

_log = structlog.get_logger()


class _AbortedError(Exception):
    """The connection of a response was closed after its first byte."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


class BlobResponse:
    """Response with a blob, or a range of it."""

    def __init__(self, digest: Digest, size_bytes: int, part: ByteRange | None = None) -> None:
        self._digest = digest
        self._size_bytes = size_bytes
        self._part = part

    @property
    def span(self) -> ByteRange:
        """What is sent of the blob."""
        return self._part or ByteRange(0, self._size_bytes)

    def head(self) -> web.StreamResponse:
        """Return the response without its body."""
        headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            hdrs.CONTENT_LENGTH: str(self.span.length),
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.ETAG: f'"{self._digest}"',
            "Docker-Content-Digest": str(self._digest),
        }
        if self._part is None:
            return web.StreamResponse(headers=headers)
        headers[hdrs.CONTENT_RANGE] = self._part.content_range(self._size_bytes)
        return web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT, headers=headers)

    async def send(self, request: web.Request, content: AsyncGenerator[bytes]) -> web.StreamResponse:
        """Send the body. An error after its first byte closes the connection."""
        response = self.head()
        if request.method == hdrs.METH_HEAD:
            return response
        try:
            async with aclosing(content) as pieces:
                async for piece in pieces:
                    if not response.prepared:  # an error before the first byte gets a response of its own
                        await response.prepare(request)
                    await response.write(piece)
            if not response.prepared:
                await response.prepare(request)
            await response.write_eof()
        except (RegistryError, OSError) as error:
            if not response.prepared:
                raise
            _log.warning("proxy.response_aborted", digest=str(self._digest), error=str(error))
            if request.transport is not None:
                request.transport.abort()
            raise _AbortedError(response) from None
        return response


async def verified(digest: Digest, content: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a blob, its last piece only if it has its digest."""
    hasher, held = digest.hasher(), b""
    async for piece in content:
        hasher.update(piece)
        if held:
            yield held
        held = piece
    if hasher.hexdigest() != digest.hex:
        raise LayerDamagedError(f"The blob {digest} does not match its digest. Pull again.")
    if held:
        yield held


@web.middleware
async def with_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render errors as the distribution-spec requires."""
    try:
        return await handler(request)
    except _AbortedError as aborted:
        return aborted.response
    except RegistryRefusedError as error:
        if error.is_absent:
            code = "MANIFEST_UNKNOWN" if "reference" in request.match_info else "BLOB_UNKNOWN"
            return error_response(HTTPStatus.NOT_FOUND, code, str(error))
        return error_response(*_ERRORS[type(error)], str(error))
    except tuple(_ERRORS) as error:
        return error_response(*_ERRORS[type(error)], str(error))
    except (RegistryError, OSError) as error:
        cause = str(error) if isinstance(error, RegistryError) else f"The cache failed: {error.strerror}"
        _log.warning("proxy.request_failed", path=request.path, error=cause)
        return error_response(HTTPStatus.BAD_GATEWAY, "UNKNOWN", cause)


def error_response(
    status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error as the distribution-spec requires ("Error Codes")."""
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status, headers=headers)
