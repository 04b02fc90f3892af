"""Bodies of responses from the registry, an edge cache or an object store: bounded in size and time."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from registry.errors import RegistryRefusedError, RegistryUnreachableError

MAX_ERROR_BYTES: Final = 16 << 10

_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class Pace:
    """Minimum rate of a body.

    Attributes:
        min_bytes: Bytes that must arrive in `stalled_s`.
    """

    min_bytes: int
    stalled_s: float


async def ranged(
    response: aiohttp.ClientResponse, start: int, length: int, pace: Pace
) -> AsyncIterator[bytes]:
    """Yield the body of a response to a request for one range.

    Raises:
        RegistryUnreachableError: It is another range, was cut off, or is too slow.
    """
    end = start + length - 1
    given = response.headers.get(hdrs.CONTENT_RANGE, "").partition("/")[0]
    is_whole = response.status == HTTPStatus.OK and start == 0
    if not (given == f"bytes {start}-{end}" or is_whole) or response.content_length != length:
        raise RegistryUnreachableError(f"{response.url.host} answered with another range")
    async for piece in pieces(response, pace):
        yield piece


async def pieces(response: aiohttp.ClientResponse, pace: Pace) -> AsyncIterator[bytes]:
    """Yield a body as it arrives. Raises RegistryUnreachableError: it was cut off, or is too slow."""
    loop = asyncio.get_running_loop()
    left = response.content_length or 0
    arrived, deadline = 0, loop.time() + pace.stalled_s
    while left:
        with answering(response.url):
            async with asyncio.timeout_at(deadline):
                piece = await response.content.readany()
        if not piece or len(piece) > left:
            raise RegistryUnreachableError(f"{response.url.host} sent a body of another length")
        left -= len(piece)
        arrived += len(piece)
        if arrived >= pace.min_bytes:
            arrived, deadline = 0, loop.time() + pace.stalled_s
        yield piece


async def document(response: aiohttp.ClientResponse, limit_bytes: int, pace: Pace) -> bytes:
    """Return a small body. Raises RegistryUnreachableError: it is larger than the limit, or too slow."""
    with answering(response.url):
        async with asyncio.timeout(pace.stalled_s):
            body = bytearray()
            while piece := await response.content.readany():
                body += piece
                if len(body) > limit_bytes:
                    raise RegistryUnreachableError(
                        f"{response.url.host} sent a document over {limit_bytes} bytes"
                    )
            return bytes(body)


async def check(response: aiohttp.ClientResponse, pace: Pace) -> None:
    """Raise the error of a response whose status is not 200 or 206."""
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = response.headers.get(hdrs.RETRY_AFTER, "")
        wait_s = float(asked) if asked.isascii() and asked.isdigit() else None
        raise RegistryUnreachableError(f"{response.url.host} answered {status}", wait_s)
    raise RegistryRefusedError(
        f"The registry answered {status}: {_reason(await document(response, MAX_ERROR_BYTES, pace))}",
        is_absent=status == HTTPStatus.NOT_FOUND,
    )


def _reason(body: bytes) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["errors"][0]["message"])
    return "without a reason"


@contextmanager
def answering(url: URL) -> Iterator[None]:
    """Translate the errors of the HTTP client."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RegistryUnreachableError(f"{url.host} does not answer ({type(error).__name__})") from None
