"""Checks of the byte range that an upstream's response contains (RFC 9110, section 14)."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from registry.errors import PullFailedError, RangeRefusedError, UpstreamUnavailableError
from registry.oci.documents import Descriptor
from registry.upstream.response import Response

_MAX_SIZE_DIGITS: Final = 20
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stream of consecutive bytes of a blob.

    Attributes:
        start: Offset of the first byte.
        stop: Offset after the last byte.
        chunks: The bytes: exactly `stop - start`, or the iteration raises.
    """

    start: int
    stop: int
    chunks: AsyncIterator[bytes]


def extent_of_range(response: Response, blob: Descriptor, start: int, stop: int) -> tuple[int, int]:
    """Return start and stop of the response to a range request: the range, or the whole blob.

    Raises:
        RangeRefusedError: The response is not clearly one of the two.
    """
    length = response.header("Content-Length")
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        if _holds(response, blob, start, stop) and length in {None, str(stop - start)}:
            return start, stop
    elif length == str(blob.size_bytes):
        return 0, blob.size_bytes
    raise RangeRefusedError(_another_range(response, blob))


def check_whole(response: Response, blob: Descriptor) -> None:
    """Check that the response to a request without a range is the whole blob.

    Raises:
        PullFailedError: The response is only a part, or has another size.
    """
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        if not _holds(response, blob, 0, blob.size_bytes):
            raise PullFailedError(_another_range(response, blob))
    elif response.header("Content-Length") not in {None, str(blob.size_bytes)}:
        raise PullFailedError(
            f"{response.host} has the blob {blob.digest} in another size than its manifest: push the image "
            "again"
        )


def stated_size(response: Response) -> int | None:
    """Return the size of the whole blob according to the response to a HEAD or range request."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
        size = match[3] if match else ""
    else:
        size = response.header("Content-Length") or ""
    return int(size) if size.isascii() and size.isdigit() and len(size) < _MAX_SIZE_DIGITS else None


async def exactly(response: Response, blob: Descriptor, size_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield a body that must have `size_bytes`.

    Raises:
        PullFailedError: The body is longer.
        UpstreamUnavailableError: The body is shorter, or the connection was cut.
    """
    missing = size_bytes
    async with aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            missing -= len(chunk)
            if missing < 0:
                raise PullFailedError(
                    f"{response.host} sends more of the blob {blob.digest} than its manifest says: push the "
                    "image again"
                )
            yield chunk
    if missing:
        raise UpstreamUnavailableError(
            f"{response.host} broke off in the middle of the blob {blob.digest}: check that the registry "
            "works, and try again later"
        )


def _another_range(response: Response, blob: Descriptor) -> str:
    return (
        f"{response.host} answers with another range of the blob {blob.digest}: ask the registry's "
        "administrator to "
        "check the proxy before it"
    )


def _holds(response: Response, blob: Descriptor, start: int, stop: int) -> bool:
    """Return whether a 206 response contains exactly this range."""
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
    if match is None or (response.header("Content-Type") or "").lower().startswith("multipart/byteranges"):
        return False
    return (int(match[1]), int(match[2]) + 1) == (start, stop) and match[3] in {str(blob.size_bytes), "*"}
