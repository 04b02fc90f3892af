"""The way to upstream registries: one client per process, one source per import."""

import ssl
from collections.abc import Collection, Mapping
from typing import Self

from yarl import URL

from registry.errors import UpstreamUnavailableError
from registry.oci.reference import Reference, split_host
from registry.ports import UpstreamCredential
from registry.upstream.authorization import PINNED_REALMS, Authorization
from registry.upstream.egress import HTTP_PORT, HTTPS_PORT, EgressGuard
from registry.upstream.retry import Backoff
from registry.upstream.source import Source
from registry.upstream.transport import Timeouts, Transport


class UpstreamClient:
    """Speaks to any number of registries; one per process, closed at the end."""

    def __init__(
        self,
        guard: EgressGuard,
        *,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        ssl_context: ssl.SSLContext | None = None,
        realms: Mapping[str, Collection[str]] = PINNED_REALMS,
    ) -> None:
        """Open no connection yet; to be called inside a running loop.

        Args:
            ssl_context: Trusted roots, and a client certificate where the registry wants one.
            realms: Which other hosts a registry's credentials may be sent to for a token; each `host[:port]`.
        """
        self._backoff = backoff or Backoff()
        self._transport = Transport(guard, timeouts, ssl_context)
        self._realms = realms

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, reference: Reference, credential: UpstreamCredential | None = None) -> Source:
        """Find out how a reference's registry is spoken to; nothing is authenticated yet.

        Raises:
            PullFailedError: The registry may not be reached, or does not answer after retries.
        """
        origin = await self._origin(reference)
        authorization = Authorization(
            self._transport, origin, reference.repository, credential, realms=self._realms
        )
        return Source(self._transport, origin, reference, authorization, self._backoff)

    async def _origin(self, reference: Reference) -> URL:
        """Choose https; plain http only where the operator listed the host and nothing speaks TLS there."""
        name, port = split_host(reference.host)
        https = URL(f"https://{name}:{port or HTTPS_PORT}")
        if not self._transport.guard.allows_plain_http(name, port or HTTP_PORT):
            return https
        try:
            async with self._transport.send("GET", https / "v2/", redirects=0):
                return https
        except UpstreamUnavailableError:
            return URL(f"http://{name}:{port or HTTP_PORT}")
