"""Answers to a request for a range that registries, CDNs and proxies are known to give."""

from aiohttp import web

from tests.support.upstream_faults import Fault, FaultyUpstream, ranged

KIND = "application/octet-stream"


def on_ranges(quirk: Fault, *, after: int = 0, cut_whole_at: int | None = None) -> Fault:
    """Answer ranges with `quirk`, but the first `after` and everything else as it should be.

    Args:
        cut_whole_at: The first request without a range is cut there.
    """
    seen, cuts = 0, [cut_whole_at] if cut_whole_at is not None else []

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        nonlocal seen
        if "Range" in request.headers:
            seen += 1
            return await quirk(request, data) if seen > after else ranged(request, data, KIND)
        if cuts:
            return await _send(request, data[: cuts.pop()], length=len(data), broken=True)
        return ranged(request, data, KIND)

    return fault


def partial(content_range: str | None, *, kind: str = KIND) -> Fault:
    """Answer 206 with the right bytes under a Content-Range.

    Args:
        content_range: May hold `{start}`, `{last}` and `{size}`; None sends no such header.
    """

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        answer = ranged(request, data, kind)
        where = answer.headers.pop("Content-Range")
        if content_range is not None:
            start, last = (int(text) for text in where.removeprefix("bytes ").partition("/")[0].split("-"))
            answer.headers["Content-Range"] = content_range.format(start=start, last=last, size=len(data))
        return answer

    return fault


async def multipart(request: web.Request, data: bytes) -> web.StreamResponse:
    answer = ranged(request, data, KIND)
    assert isinstance(answer.body, bytes)
    where = answer.headers["Content-Range"]
    head = f"--cut\r\nContent-Type: {KIND}\r\nContent-Range: {where}\r\n\r\n".encode()
    kind = {"Content-Type": "multipart/byteranges; boundary=cut"}
    return web.Response(status=206, body=head + answer.body + b"\r\n--cut--\r\n", headers=kind)


def whole(code: int, *, honest: bool = False, chunked: bool = False) -> Fault:
    """Send the whole blob; with 206 under the Content-Range of the whole, if `honest`, or of the range."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        where = f"bytes 0-{len(data) - 1}/{len(data)}"
        if not honest:
            where = ranged(request, data, KIND).headers["Content-Range"]
        headers = {"Content-Range": where} if code == 206 else {}
        return await _send(request, data, code, headers, length=None if chunked else len(data))

    return fault


def unmarked(*, chunked: bool) -> Fault:
    """Send the range, but call it the whole."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        part = ranged(request, data, KIND).body
        assert isinstance(part, bytes)
        return await _send(request, part, length=None if chunked else len(part))

    return fault


async def other_bytes(request: web.Request, data: bytes) -> web.StreamResponse:
    return ranged(request, bytes(len(data)), KIND)


async def hang_up(request: web.Request, _data: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def redirect_to(cdn: FaultyUpstream, digest: str) -> Fault:
    """Redirect every request for a blob to another host."""

    async def fault(_request: web.Request, _data: bytes) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://{cdn.host}/blobs/{digest}"})

    return fault


async def _send(
    request: web.Request,
    body: bytes,
    code: int = 200,
    headers: dict[str, str] | None = None,
    *,
    length: int | None,
    broken: bool = False,
) -> web.StreamResponse:
    response = web.StreamResponse(status=code, headers=headers)
    response.content_length = length
    if length is None:
        response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(body)
    if broken:
        assert request.transport is not None
        request.transport.close()
    else:
        await response.write_eof()
    return response
