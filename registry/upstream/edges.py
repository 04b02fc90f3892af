"""HTTP client for edge caches, whose addresses the operator has set."""

from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from registry.errors import EdgeFailedError
from registry.upstream.transport import USER_AGENT

CACHE_HEADER: Final = "X-Cache-Status"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, connect=5)


class HttpEdgeClient:
    """Reads single bytes from edges, at most 64 at a time. Follows no redirects."""

    def __init__(self) -> None:
        """Configure the client without opening connections. Must be called inside a running event loop."""
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=64),
            headers={hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT_ENCODING: "identity"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def touch(self, url: str, offset: int) -> bool:
        """Ask for one byte of a blob. Returns whether the edge had the slice around it.

        Raises:
            EdgeFailedError: The edge does not answer, or not with this byte.
        """
        target, headers = URL(url, encoded=True), {hdrs.RANGE: f"bytes={offset}-{offset}"}
        try:
            async with self._session.get(target, headers=headers, allow_redirects=False) as response:
                given = response.headers.get(hdrs.CONTENT_RANGE, "").partition("/")[0]
                if response.status != HTTPStatus.PARTIAL_CONTENT or given != f"bytes {offset}-{offset}":
                    raise EdgeFailedError(_refusal(response.status))
                await response.content.readexactly(1)
                return response.headers.get(CACHE_HEADER) == "HIT"
        except (aiohttp.ClientError, TimeoutError, EOFError, OSError) as error:
            raise EdgeFailedError(f"it does not answer ({type(error).__name__})") from None


def _refusal(status: int) -> str:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return f"it answered {status}: check its key, and the networks from which it may fetch"
    if status == HTTPStatus.NOT_FOUND:
        return "it answered 404: check that its URL is the root of deploy/edge/nginx.conf"
    return f"it answered {status} instead of a part of the layer: check its log"
