"""One pull at the registry, as the node: documents, ranges of ciphertext, and the report of its end."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from yarl import URL

from auth.jws import unverified_token_id
from auth.secret import Secret
from registry.errors import RegistryRefusedError, RegistryUnreachableError
from registry.model.edges import EDGE_HEADER, NO_EDGE
from registry.node_proxy.bodies import MAX_ERROR_BYTES, Pace, answering, check, document, pieces, ranged
from registry.node_proxy.edge import Edge, Edges
from registry.oci.documents import MAX_DOCUMENT_BYTES
from registry.oci.encrypted_manifest import PLAINTEXT_DIGEST
from registry.oci.mediatypes import ACCEPTED
from storage.digest import Digest

MIN_BYTES: Final = 64 << 10
PACE: Final = Pace(MIN_BYTES, 20.0)
"""A range is requested again if it arrives more slowly."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=PACE.stalled_s)
_MAX_REDIRECTS = 3
_AGENT = "crisper-node-proxy"
_REDIRECTS = frozenset({HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})


@dataclass(frozen=True, slots=True)
class RegistryDocument:
    """Response with a document.

    Attributes:
        plaintext: Digest of the document before encryption; None if it is not encrypted.
    """

    body: bytes
    media_type: str
    plaintext: str | None


class Registry:
    """The registry, and how this node authenticates.

    Args:
        url: `https://HOST[:PORT]`.
        node_id: Id of the node.
        secret: Secret of a node that has no certificate.
        tls: Returns the TLS context with the node's current certificate.
        client: HTTP client, without cookies.
        edge: URL of the edge cache that this node uses; None for the one that the registry names.
    """

    def __init__(
        self,
        url: str,
        node_id: str,
        secret: Secret | None,
        tls: Callable[[], ssl.SSLContext],
        *,
        client: aiohttp.ClientSession,
        edge: str | None = None,
    ) -> None:
        self.url = URL(url)
        self.node_id = node_id
        self._secret = secret
        self._tls = tls
        self._client = client
        self.edges = Edges(client, edge)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        node_id: str,
        secret: Secret | None,
        tls: Callable[[], ssl.SSLContext],
        *,
        edge: str | None = None,
    ) -> AsyncIterator[Self]:
        """Open the HTTP client. Raises ConfigError: the edge's URL is not valid."""
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            headers={hdrs.USER_AGENT: _AGENT, hdrs.ACCEPT_ENCODING: "identity"},
            auto_decompress=False,
        ) as client:
            yield cls(url, node_id, secret, tls, client=client, edge=edge)

    async def exchange(self, token: Secret, repository: str) -> Secret:
        """Exchange a pull token for a session's bearer token; the same session as long as it is active.

        Raises:
            RegistryRefusedError: The token was used, has expired or is for another node or repository.
            RegistryUnreachableError: The registry does not answer.
        """
        password = f"{token.reveal()}~{self._secret.reveal()}" if self._secret else token.reveal()
        basic = aiohttp.encode_basic_auth(self.node_id, password)
        url = (self.url / "token").with_query(scope=f"repository:{repository}:pull")
        async with self.send(hdrs.METH_GET, url, {hdrs.AUTHORIZATION: basic}) as response:
            await check(response, PACE)
            body = await document(response, MAX_ERROR_BYTES, PACE)
        try:
            return Secret(str(json.loads(body)["access_token"]))
        except (ValueError, KeyError, TypeError):
            raise RegistryUnreachableError(
                f"{self.url} answered without a token. Check that the URL is a Crisper registry's."
            ) from None

    @asynccontextmanager
    async def send(
        self, method: str, url: URL, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to the registry, or without the node's certificate to another server."""
        is_ours = url.origin() == self.url.origin()
        with answering(url):
            response = await self._client.request(
                method, url, headers=headers, allow_redirects=False, ssl=self._tls() if is_ours else True
            )
        async with response:
            yield response


class RegistrySession:
    """One pull token's session in its repository. It opens with the first request."""

    def __init__(self, registry: Registry, token: Secret, repository: str) -> None:
        self._registry = registry
        self._token = token
        self._repository = repository
        self._base = registry.url / "v2" / repository
        self._bearer: Secret | None = None
        self._edge: Edge | None = None
        self._has_asked = False
        self._opening = asyncio.Lock()

    async def document(self, path: str) -> RegistryDocument:
        """Fetch a small document: `manifests/<reference>`, or `blobs/<digest>`.

        Raises:
            RegistryRefusedError: The session may not have it, or it does not exist.
            RegistryUnreachableError: The registry does not answer.
        """
        async with self._get(path, {hdrs.ACCEPT: ", ".join(ACCEPTED)}) as response:
            body = await document(response, MAX_DOCUMENT_BYTES, PACE)
            media_type = response.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip()
            return RegistryDocument(body, media_type, response.headers.get(PLAINTEXT_DIGEST))

    @asynccontextmanager
    async def blob(self, digest: Digest) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Open a blob that is not encrypted: its size, and its content. Raises as `document` does."""
        async with self._get(f"blobs/{digest}", {}) as response:
            if response.content_length is None:
                raise RegistryUnreachableError(f"{response.url.host} sent a blob without its length")
            yield response.content_length, pieces(response, PACE)

    async def read_range(self, digest: Digest, start: int, length: int) -> AsyncGenerator[bytes]:
        """Yield a range of a blob, in pieces as they arrive. Raises as `document` does."""
        headers = {hdrs.RANGE: f"bytes={start}-{start + length - 1}", EDGE_HEADER: NO_EDGE}
        async with self._get(f"blobs/{digest}", headers) as response:
            async for piece in ranged(response, start, length, PACE):
                yield piece

    async def edge(self) -> Edge | None:
        """Return the edge cache to ask first: this node's own, or the one that the registry names, if any."""
        edges = self._registry.edges
        if edges.configured is not None:
            return edges.configured
        if not self._has_asked:
            with suppress(RegistryUnreachableError, RegistryRefusedError):
                bearer = await self._open()
                url = self._registry.url / "v2/"
                async with self._registry.send(hdrs.METH_GET, url, self._authorization(bearer)) as response:
                    await check(response, PACE)
                    self._edge = edges.at(response.headers.get(EDGE_HEADER, ""))
                self._has_asked = True
        return self._edge

    async def report_complete(self) -> bool:
        """Report that the pull is complete. Returns whether the registry accepted it."""
        token_id = unverified_token_id(self._token)
        if token_id is None or self._bearer is None:
            return False
        url = self._registry.url / "api/v1/pull-tokens" / token_id / "complete"
        with suppress(RegistryUnreachableError, RegistryRefusedError):
            async with self._registry.send(
                hdrs.METH_POST, url, self._authorization(self._bearer)
            ) as response:
                await check(response, PACE)
                return True
        return False

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET below the repository. Opens the session again if its bearer token has expired."""
        for is_last in (False, True):
            bearer = await self._open()
            url = self._base.joinpath(path, encoded=True)
            async with self._following(url, {**headers, **self._authorization(bearer)}) as response:
                if response.status == HTTPStatus.UNAUTHORIZED and not is_last:
                    if self._bearer is bearer:
                        self._bearer = None
                    continue
                await check(response, PACE)
                yield response
                return

    @asynccontextmanager
    async def _following(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follow redirects to the servers that have the ciphertext. They get no credential."""
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._registry.send(hdrs.METH_GET, url, headers) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = response.url.join(URL(response.headers.get(hdrs.LOCATION, ""), encoded=True))
                headers = {name: value for name, value in headers.items() if name != hdrs.AUTHORIZATION}
        raise RegistryUnreachableError(f"{url.host} redirects too often")

    async def _open(self) -> Secret:
        async with self._opening:
            if self._bearer is None:
                self._bearer = await self._registry.exchange(self._token, self._repository)
            return self._bearer

    @staticmethod
    def _authorization(bearer: Secret) -> dict[str, str]:
        return {hdrs.AUTHORIZATION: f"Bearer {bearer.reveal()}"}
