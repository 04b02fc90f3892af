"""Headers, conditional requests and ranges of responses with stored content (RFC 9110)."""

from aiohttp import hdrs, web

from registry.model.images import ImageContent

OCTETS = "application/octet-stream"


def headers_of(content: ImageContent, media_type: str) -> dict[str, str]:
    """Return the common headers of GET and HEAD, without Content-Length."""
    return {
        hdrs.CONTENT_TYPE: media_type,
        hdrs.ETAG: f'"{content.digest}"',
        hdrs.CACHE_CONTROL: "private, max-age=0",
        "Docker-Content-Digest": str(content.digest),
    }


def head(headers: dict[str, str], size_bytes: int) -> web.Response:
    """Respond to HEAD with the headers of GET (RFC 9110, section 9.3.2)."""
    return web.Response(headers=headers | {hdrs.CONTENT_LENGTH: str(size_bytes)})


def has_it(request: web.Request, content: ImageContent) -> bool:
    """Return whether the client already has this content (RFC 9110, section 13.1.2)."""
    known = request.if_none_match or ()
    return any(tag.value in {"*", str(content.digest)} for tag in known)


def range_header(request: web.Request, content: ImageContent) -> str | None:
    """Return the Range header, unless If-Range names other content (RFC 9110, section 13.1.5)."""
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition != f'"{content.digest}"':
        return None
    return request.headers.get(hdrs.RANGE)
