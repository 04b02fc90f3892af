"""Answers about one stored content: their headers, conditions and ranges (RFC 9110)."""

from aiohttp import hdrs, web

from registry.model.images import ImageContent

OCTETS = "application/octet-stream"


def headers_of(content: ImageContent, media_type: str) -> dict[str, str]:
    """Return the headers that GET and HEAD have in common, but for the length."""
    return {
        hdrs.CONTENT_TYPE: media_type,
        hdrs.ETAG: f'"{content.digest}"',
        hdrs.CACHE_CONTROL: "private, max-age=0",
        "Docker-Content-Digest": str(content.digest),
    }


def head(headers: dict[str, str], size_bytes: int) -> web.Response:
    """Answer HEAD as GET would be, without the body (RFC 9110, section 9.3.2)."""
    return web.Response(headers=headers | {hdrs.CONTENT_LENGTH: str(size_bytes)})


def has_it(request: web.Request, content: ImageContent) -> bool:
    """Tell whether the client holds this very content (RFC 9110, section 13.1.2)."""
    known = request.if_none_match or ()
    return any(tag.value in {"*", str(content.digest)} for tag in known)


def range_header(request: web.Request, content: ImageContent) -> str | None:
    """Return the range asked for, unless it was asked of other content (RFC 9110, section 13.1.5)."""
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition != f'"{content.digest}"':
        return None
    return request.headers.get(hdrs.RANGE)
