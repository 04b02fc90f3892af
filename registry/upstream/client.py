"""Client for upstream registries: one per process, with one `UpstreamRepository` per import."""

import ssl
from collections.abc import Collection, Mapping
from typing import Self

from aiohttp.abc import AbstractResolver
from yarl import URL

from registry.errors import PlainHttpError, UpstreamUnavailableError
from registry.hosts import split_host
from registry.model.imports import UpstreamCredential
from registry.oci.documents import MAX_DOCUMENT_BYTES
from registry.oci.reference import Reference
from registry.upstream.authorization import Authorization
from registry.upstream.credentials.logins import login_for
from registry.upstream.egress import HTTP_PORT, HTTPS_PORT, EgressGuard
from registry.upstream.realms import PINNED_REALMS
from registry.upstream.repository import UpstreamRepository
from registry.upstream.response import Timeouts
from registry.upstream.retry import Backoff
from registry.upstream.routes import CertificateAuthorities, OutboundProxy
from registry.upstream.transport import Transport


class UpstreamClient:
    """Opens repositories at any number of registries. One per process; close it at the end."""

    def __init__(
        self,
        guard: EgressGuard,
        *,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        ssl_context: ssl.SSLContext | None = None,
        authorities: Mapping[str, ssl.SSLContext] | None = None,
        realms: Mapping[str, Collection[str]] = PINNED_REALMS,
        proxy: OutboundProxy | None = None,
        ecr_endpoint: str | None = None,
        resolver: AbstractResolver | None = None,
        max_manifest_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> None:
        """Configure the client without opening connections. Must be called inside a running event loop.

        Args:
            ssl_context: Trusted roots, and a client certificate if a registry requires one.
            authorities: Trusted roots for single hosts instead, by `host[:port]`; the default port is 443.
            realms: Other hosts that may receive a registry's credentials for a token; each `host[:port]`.
            proxy: Proxy for all connections except those to hosts that the guard lists.
            ecr_endpoint: Amazon ECR's API, if not AWS' own; `{region}` stands for the registry's region.
            resolver: DNS resolver; the system's by default.
            max_manifest_bytes: Size limit for each manifest and index.
        """
        self._backoff = backoff or Backoff()
        private = {_endpoint(host): context for host, context in (authorities or {}).items()}
        self._transport = Transport(
            guard, timeouts, CertificateAuthorities(ssl_context, private), proxy, resolver
        )
        self._realms = realms
        self._ecr_endpoint = ecr_endpoint
        self._max_manifest_bytes = max_manifest_bytes

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(
        self, reference: Reference, credential: UpstreamCredential | None = None
    ) -> UpstreamRepository:
        """Determine the protocol of a reference's registry. Does not authenticate yet.

        Raises:
            AuthenticationFailedError: The registry does not support this kind of credentials.
            PullFailedError: The egress guard forbids the registry, or it does not answer after retries.
        """
        origin = await self._origin(reference)
        login = login_for(self._transport, origin, credential, self._ecr_endpoint)
        authorization = Authorization(
            self._transport, origin, reference.repository, login, realms=self._realms
        )
        return UpstreamRepository(
            self._transport,
            origin,
            reference,
            authorization,
            self._backoff,
            max_manifest_bytes=self._max_manifest_bytes,
        )

    async def _origin(self, reference: Reference) -> URL:
        """Choose https, or plain http if the operator listed the host as insecure and it does not use TLS."""
        name, port = split_host(reference.host)
        https = URL(f"https://{name}:{port or HTTPS_PORT}")
        if not self._transport.guard.allows_plain_http(name, port or HTTP_PORT):
            return https
        try:
            async with self._transport.send("GET", https / "v2/", redirects=0):
                return https
        except (UpstreamUnavailableError, PlainHttpError):
            return URL(f"http://{name}:{port or HTTP_PORT}")


def _endpoint(host: str) -> tuple[str, int]:
    name, port = split_host(host)
    return name, port or HTTPS_PORT
