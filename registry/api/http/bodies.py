"""Decoding of request bodies with limits of this server.

aiohttp decodes a body, and even the parameters of a Content-Type (RFC 2231), with the Python codec that the
sender names; some codecs need minutes for a megabyte. Therefore only this module reads bodies and
Content-Types: UTF-8, limited in bytes, time and fields, neither multipart nor compressed.
tests/unit/registry/test_decoding.py checks that no other module does.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Final

from aiohttp import hdrs, web
from multidict import MultiDict

from registry.api.http.edge import require_text
from registry.errors import InvalidInputError

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
MAX_BODY_BYTES: Final = 64 << 10
MAX_FIELDS: Final = 64
BODY_S: Final = 10.0
FORM: Final = "application/x-www-form-urlencoded"

_UTF_8 = frozenset({"utf-8", "utf8"})


async def read_text(
    request: web.Request, media_types: Sequence[str] = (JSON,), *, limit_bytes: int = MAX_BODY_BYTES
) -> str:
    """Read a body of one of `media_types`.

    Raises:
        HTTPUnsupportedMediaType: It has another media type or charset, or is compressed.
        HTTPRequestEntityTooLarge: It has more than `limit_bytes`.
        HTTPRequestTimeout: It was not complete within `BODY_S`.
        InvalidInputError: It is not UTF-8, not complete, or its transfer coding is invalid.
    """
    _require_readable(request, media_types)
    try:
        async with asyncio.timeout(BODY_S):
            body = await _read(request, limit_bytes)
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The request body took too long. Send it again.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise InvalidInputError("The body is incomplete or its transfer coding is invalid.") from None
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidInputError("The body is not UTF-8. Encode it in UTF-8.") from None


async def read_form(request: web.Request) -> MultiDict[str]:
    """Read the fields of a form.

    Raises:
        HTTPException: As `read_text`.
        InvalidInputError: As `read_text`; or it has more than `MAX_FIELDS`, escapes that are not UTF-8, or
            control characters.
    """
    text = await read_text(request, (FORM,))
    try:
        fields = _parse_form(text)
    except ValueError:
        raise InvalidInputError(
            f"The form cannot be read. Send at most {MAX_FIELDS} fields, escaped as UTF-8."
        ) from None
    for part in chain.from_iterable(fields.items()):
        require_text(part, "form")
    return fields


def _parse_form(text: str) -> MultiDict[str]:
    """Parse an `application/x-www-form-urlencoded` body. Raises ValueError: see `read_form`."""
    if text.count("&") >= MAX_FIELDS:
        raise ValueError("too many fields")
    fields = (field.partition("=") for field in text.split("&") if field)
    return MultiDict((_unescape(name), _unescape(value)) for name, _, value in fields)


def _unescape(text: str) -> str:
    r"""Replace `+` and `%41`. Raises ValueError: an escape is invalid, or the result is not UTF-8.

    Python's codec for `\x41` does this in C. `urllib` needs 10 ms of the event loop for 64 KiB of escapes.
    """
    if "%" not in text:
        return text.replace("+", " ")
    escaped = text.replace("+", " ").encode().replace(b"\\", b"\\\\").replace(b"%", b"\\x")
    return escaped.decode("unicode_escape").encode("latin-1").decode()


async def _read(request: web.Request, limit_bytes: int) -> bytes:
    body, announced = bytearray(), request.content_length or 0
    while (size := max(announced, len(body))) <= limit_bytes:
        chunk = await request.content.readany()
        if not chunk:
            return bytes(body)
        body += chunk
    raise web.HTTPRequestEntityTooLarge(limit_bytes, size, text=f"Send at most {limit_bytes} bytes.")


def _require_readable(request: web.Request, media_types: Sequence[str]) -> None:
    headers = request.headers
    if headers.getall(hdrs.CONTENT_ENCODING, ["identity"]) != ["identity"]:
        raise web.HTTPUnsupportedMediaType(text="Send the body without a Content-Encoding.")
    if headers.get(hdrs.TRANSFER_ENCODING, "chunked").strip().lower() != "chunked":
        raise web.HTTPUnsupportedMediaType(text="The only supported Transfer-Encoding is chunked.")
    lines = headers.getall(hdrs.CONTENT_TYPE, [""])
    media_type, *parameters = (part.strip().lower() for part in lines[0].split(";"))
    if len(lines) > 1 or media_type not in media_types:
        raise web.HTTPUnsupportedMediaType(text=f"Send {' or '.join(media_types)}.")
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.strip().startswith("charset") and value.strip(' "') not in _UTF_8:
            raise web.HTTPUnsupportedMediaType(text="Send the body in UTF-8, or omit the charset.")
