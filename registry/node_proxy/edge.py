"""Edge caches, which are asked for ciphertext before the registry. They need not be trusted.

A bad edge costs some seconds, and is then not asked for a while. Its bytes are verified with the whole layer.
"""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from aiohttp import hdrs
from cachetools import LRUCache
from yarl import URL

from registry.errors import ConfigError, ReferenceFormatError, RegistryRefusedError, RegistryUnreachableError
from registry.hosts import RegistryAddress
from registry.node_proxy.bodies import Pace, answering, ranged
from storage.digest import Digest

PACE: Final = Pace(512 << 10, 10.0)
HEAD_S: Final = 10.0
"""Time until the head of a response."""

FIRST_REST_S: Final = 60.0
LONGEST_REST_S: Final = 3600.0

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5, sock_read=PACE.stalled_s)
_KNOWN: Final = 16
_log = structlog.get_logger()


class Edge:
    """One edge cache.

    Args:
        url: `https://HOST[:PORT]`.
        client: HTTP client, without cookies.
    """

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url = URL(url)
        self._client = client
        self._rests_until = 0.0
        self._rest_s = FIRST_REST_S

    @property
    def is_usable(self) -> bool:
        """Whether it is to be asked."""
        return asyncio.get_running_loop().time() >= self._rests_until

    async def read_range(self, digest: Digest, start: int, length: int) -> AsyncGenerator[bytes]:
        """Yield a range of a ciphertext, in pieces as they arrive. It gets no credential.

        Raises:
            RegistryRefusedError: It does not have the ciphertext.
            RegistryUnreachableError: It does not answer, sends something else, or is too slow.
        """
        url = self._url / "blobs" / str(digest)
        headers = {hdrs.RANGE: f"bytes={start}-{start + length - 1}"}
        with answering(url):
            async with asyncio.timeout(HEAD_S):
                response = await self._client.get(
                    url, headers=headers, allow_redirects=False, timeout=_TIMEOUT
                )
        async with response:
            if response.status == HTTPStatus.NOT_FOUND:
                raise RegistryRefusedError(f"{url.host} does not have the layer", is_absent=True)
            if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                raise RegistryUnreachableError(f"{url.host} answered {response.status}")
            async for piece in ranged(response, start, length, PACE):
                yield piece

    def succeeded(self) -> None:
        """Note that it sent a chunk in time."""
        self._rest_s = FIRST_REST_S

    def failed(self, reason: str) -> None:
        """Leave it alone for a while, after each failure for longer."""
        if not self.is_usable:
            return  # another connection to it has failed
        _log.warning("proxy.edge_failed", edge=str(self._url), reason=reason, retry_s=self._rest_s)
        self._rests_until = asyncio.get_running_loop().time() + self._rest_s
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)

    def distrust(self) -> None:
        """Leave it alone for an hour: a layer with bytes from it was damaged."""
        _log.error("proxy.edge_distrusted", edge=str(self._url), retry_s=LONGEST_REST_S)
        self._rests_until = asyncio.get_running_loop().time() + LONGEST_REST_S


class Edges:
    """Edges that were named to this node, with what is known of them.

    Args:
        configured: URL that this node uses instead of what the registry names; None for the latter.

    Raises:
        ConfigError: The URL is not valid.
    """

    def __init__(self, client: aiohttp.ClientSession, configured: str | None) -> None:
        self._client = client
        self._edges: LRUCache[str, Edge] = LRUCache(_KNOWN)
        self.configured: Edge | None = None
        if configured is not None:
            self.configured = self.at(configured)
            if self.configured is None:
                raise ConfigError("the edge's URL must be https://HOST[:PORT]: check --edge")

    def at(self, url: str) -> Edge | None:
        """Return the edge with a URL; None if the URL is not valid."""
        try:
            origin = RegistryAddress.parse(url).url
        except ReferenceFormatError:
            return None
        if origin not in self._edges:
            self._edges[origin] = Edge(origin, self._client)
        return self._edges[origin]
