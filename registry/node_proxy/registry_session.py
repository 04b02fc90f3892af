"""One pull at the registry, as the node: documents, ranges of ciphertext, and the report of its end."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from yarl import URL

from auth.jws import unverified_token_id
from auth.secret import Secret
from registry.errors import RegistryRefusedError, RegistryUnreachableError
from registry.oci.documents import MAX_DOCUMENT_BYTES
from registry.oci.encrypted_manifest import PLAINTEXT_DIGEST
from registry.oci.mediatypes import ACCEPTED
from storage.digest import Digest

MIN_BYTES: Final = 64 << 10
STALLED_S: Final = 20.0
"""A range is requested again if fewer than MIN_BYTES arrive in this time."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=STALLED_S)
_MAX_REDIRECTS = 3
_MAX_ERROR_BYTES = 16 << 10
_AGENT = "crisper-node-proxy"
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
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
    """

    def __init__(
        self,
        url: str,
        node_id: str,
        secret: Secret | None,
        tls: Callable[[], ssl.SSLContext],
        client: aiohttp.ClientSession,
    ) -> None:
        self.url = URL(url)
        self.node_id = node_id
        self._secret = secret
        self._tls = tls
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, node_id: str, secret: Secret | None, tls: Callable[[], ssl.SSLContext]
    ) -> AsyncIterator[Self]:
        """Open the HTTP client."""
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            headers={hdrs.USER_AGENT: _AGENT, hdrs.ACCEPT_ENCODING: "identity"},
            auto_decompress=False,
        ) as client:
            yield cls(url, node_id, secret, tls, client)

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
            await _check(response)
            body = await _read(response, _MAX_ERROR_BYTES)
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
        with _answering(url):
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
        self._opening = asyncio.Lock()

    async def document(self, path: str) -> RegistryDocument:
        """Fetch a small document: `manifests/<reference>`, or `blobs/<digest>`.

        Raises:
            RegistryRefusedError: The session may not have it, or it does not exist.
            RegistryUnreachableError: The registry does not answer.
        """
        async with self._get(path, {hdrs.ACCEPT: ", ".join(ACCEPTED)}) as response:
            body = await _read(response, MAX_DOCUMENT_BYTES)
            media_type = response.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip()
            return RegistryDocument(body, media_type, response.headers.get(PLAINTEXT_DIGEST))

    @asynccontextmanager
    async def blob(self, digest: Digest) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Open a blob that is not encrypted: its size, and its content. Raises as `document` does."""
        async with self._get(f"blobs/{digest}", {}) as response:
            if response.content_length is None:
                raise RegistryUnreachableError(f"{response.url.host} sent a blob without its length")
            yield response.content_length, _pieces(response)

    async def read_range(self, digest: Digest, start: int, length: int) -> AsyncGenerator[bytes]:
        """Yield a range of a blob, in pieces as they arrive. Raises as `document` does."""
        end = start + length - 1
        async with self._get(f"blobs/{digest}", {hdrs.RANGE: f"bytes={start}-{end}"}) as response:
            given = response.headers.get(hdrs.CONTENT_RANGE, "").partition("/")[0]
            is_whole = response.status == HTTPStatus.OK and start == 0
            if not (given == f"bytes {start}-{end}" or is_whole) or response.content_length != length:
                raise RegistryUnreachableError(f"{response.url.host} answered with another range")
            async for piece in _pieces(response):
                yield piece

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
                await _check(response)
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
                await _check(response)
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


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield a body as it arrives. Raises RegistryUnreachableError: it was cut off, or is too slow."""
    loop = asyncio.get_running_loop()
    left = response.content_length or 0
    arrived, deadline = 0, loop.time() + STALLED_S
    while left:
        with _answering(response.url):
            async with asyncio.timeout_at(deadline):
                piece = await response.content.readany()
        if not piece or len(piece) > left:
            raise RegistryUnreachableError(f"{response.url.host} sent a body of another length")
        left -= len(piece)
        arrived += len(piece)
        if arrived >= MIN_BYTES:
            arrived, deadline = 0, loop.time() + STALLED_S
        yield piece


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    with _answering(response.url):
        async with asyncio.timeout(STALLED_S):
            body = bytearray()
            while piece := await response.content.readany():
                body += piece
                if len(body) > limit_bytes:
                    raise RegistryUnreachableError(
                        f"{response.url.host} sent a document over {limit_bytes} bytes"
                    )
            return bytes(body)


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise the error of a response whose status is not 200 or 206."""
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = response.headers.get(hdrs.RETRY_AFTER, "")
        wait_s = float(asked) if asked.isascii() and asked.isdigit() else None
        raise RegistryUnreachableError(f"{response.url.host} answered {status}", wait_s)
    raise RegistryRefusedError(
        f"The registry answered {status}: {_reason(await _read(response, _MAX_ERROR_BYTES))}",
        is_absent=status == HTTPStatus.NOT_FOUND,
    )


def _reason(body: bytes) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["errors"][0]["message"])
    return "without a reason"


@contextmanager
def _answering(url: URL) -> Iterator[None]:
    """Translate the errors of the HTTP client."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RegistryUnreachableError(f"{url.host} does not answer ({type(error).__name__})") from None
