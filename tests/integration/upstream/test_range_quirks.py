"""No answer to a range fails an import that one request for the whole blob completes.

Every quirk is met at the first range, midway after a cut, and once ranges run in parallel.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from aiohttp import web

from registry.errors import AuthenticationFailedError, ImportFailedError, PullFailedError
from registry.upstream import ranges
from tests.integration.upstream.conftest import FAST, Bench, credential
from tests.support.distribution import digest_of, make_image
from tests.support.range_quirks import (
    hang_up,
    multipart,
    on_ranges,
    other_bytes,
    partial,
    redirect_to,
    unmarked,
    whole,
)
from tests.support.upstream_faults import Fault, FaultyUpstream, redirect, status

RANGE = 50_000
LARGE = random.Random(21).randbytes(10 * RANGE + 7)
SMALL = LARGE[: 3 * RANGE]  # below MIN_BYTES: one request, and a range only after a cut
ATTEMPTS = 4

#: What a request for a range is answered with; each is refused once, and then not asked for again.
REFUSALS: Mapping[str, Fault] = MappingProxyType(
    {str(code): status(code) for code in (204, 304, 400, 401, 403, 404, 405, 406, 410, 416, 418, 501, 505)}
    | {
        "401 with a challenge": status(401, WWW_Authenticate='Basic realm="x"'),
        "redirect to a private address": redirect("https://10.0.0.1/blob"),
        "redirect to plain HTTP": redirect("http://example.com/blob"),
        "206 without Content-Range": partial(None),
        "206 with another unit": partial("items {start}-{last}/{size}"),
        "206 with an unreadable Content-Range": partial("bytes={start}-{last}"),
        "206 with an unsatisfied Content-Range": partial("bytes */{size}"),
        "206 from another start": partial("bytes 5-{last}/{size}"),
        "206 to another end": partial("bytes {start}-{start}/{size}"),
        "206 of another total": partial("bytes {start}-{last}/1"),
        "206 as multipart": multipart,
        "206 as multipart with Content-Range": partial(
            "bytes {start}-{last}/{size}", kind="multipart/byteranges"
        ),
        "206 with the whole": whole(206, honest=True),
        "206 with the whole, chunked": whole(206, honest=True, chunked=True),
        "206 with the whole called the range": whole(206),
        "200 with the whole": whole(200),
        "200 with the whole, chunked": whole(200, chunked=True),
        "200 with the range": unmarked(chunked=False),
        "200 with the range, chunked": unmarked(chunked=True),
    }
)
#: What passes, or is seen only at the end; the whole is requested in the end.
FAILURES: Mapping[str, Fault] = MappingProxyType(
    {
        "429": status(429, Retry_After="0"),
        "500": status(500),
        "502": status(502),
        "503": status(503),
        "no answer": hang_up,
        "206 with other bytes": other_bytes,
        "206 with the whole called the range, chunked": whole(206, chunked=True),
    }
)
QUIRKS = MappingProxyType({**REFUSALS, **FAILURES})
PLACES = ("at the start", "midway", "in parallel")
#: Ranges that are requested where they are refused; in parallel: three good ones, those ahead, the front's.
MOST_RANGES: Mapping[str, int] = MappingProxyType({"at the start": 1, "midway": 1, "in parallel": 3 + 4 + 1})


@pytest.fixture(autouse=True)
def small_ranges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.backoff = replace(FAST, attempts=ATTEMPTS, progress_bytes=RANGE)
    monkeypatch.setattr(ranges, "RANGE_BYTES", RANGE)
    monkeypatch.setattr(ranges, "MIN_BYTES", 4 * RANGE)


def put(upstream: FaultyUpstream, quirk: Fault, place: str) -> str:
    """Serve an image whose layer's ranges have a quirk; return the layer's digest."""
    layer = SMALL if place == "midway" else LARGE
    upstream.add(make_image([layer]))
    after = 3 if place == "in parallel" else 0
    cut_at = 2 * RANGE if place == "midway" else None
    upstream.always(digest_of(layer), on_ranges(quirk, after=after, cut_whole_at=cut_at))
    return digest_of(layer)


async def check_imported(bench: Bench, upstream: FaultyUpstream, digest: str, *more: str) -> None:
    """Import the image, and check that its layer is stored, and that no memory is held."""
    await bench.run(f"{upstream.host}/app:1", insecure=(upstream.host, *more))
    layer = SMALL if digest == digest_of(SMALL) else LARGE
    assert await bench.read(digest) == layer
    assert bench.reports[-1].bytes_done == len(layer)
    assert bench.options.download.memory.take(bench.ahead_bytes)


def requests(upstream: FaultyUpstream, digest: str) -> tuple[int, int]:
    """Count the requests for a blob: those for a range, and those for the whole."""
    asked = [seen.range is not None for seen in upstream.seen if seen.path.endswith(digest)]
    return sum(asked), len(asked) - sum(asked)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", QUIRKS)
async def test_an_import_completes_whatever_a_range_is_answered_with(
    bench: Bench, upstream: FaultyUpstream, name: str, place: str
) -> None:
    digest = put(upstream, QUIRKS[name], place)
    await check_imported(bench, upstream, digest)
    ranged, whole_ones = requests(upstream, digest)
    if name in REFUSALS:
        strays = 2 if name == "401" else 1  # it might be a stray one, so the range is requested once more
        assert ranged <= MOST_RANGES[place] * strays
        assert whole_ones <= (2 if place == "midway" else 1)
    else:
        assert ranged + whole_ones <= 3 + 4 * ATTEMPTS
    asked = [seen.range for seen in upstream.seen if seen.range is not None]
    assert all(text.rpartition("-")[2].isdigit() for text in asked)  # no range is open-ended


@pytest.mark.parametrize("place", PLACES)
async def test_a_range_whose_total_is_not_said_is_taken(
    bench: Bench, upstream: FaultyUpstream, place: str
) -> None:
    digest = put(upstream, partial("bytes {start}-{last}/*"), place)
    await check_imported(bench, upstream, digest)
    assert requests(upstream, digest) == ((1, 1) if place == "midway" else (11, 0))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("code", [400, 403, 404, 416, 501])
async def test_a_redirect_of_ranges_to_a_host_that_refuses_them_is_survived(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream, code: int, place: str
) -> None:
    digest = put(other, status(code), place)
    upstream.add(make_image([SMALL if place == "midway" else LARGE]))
    upstream.always(digest, redirect_to(other, digest))
    await check_imported(bench, upstream, digest, other.host)
    assert requests(other, digest)[0] <= MOST_RANGES[place]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_a_refused_range_does_not_fail_authentication(
    bench: Bench, upstream: FaultyUpstream, place: str, code: int, scheme: str
) -> None:
    at = f"http://{upstream.host}/token" if scheme == "Bearer" else None
    upstream.want("robot$ci", "s3cret:päss", realm=at)
    challenge = f'{scheme} realm="{at}",service="upstream"'
    digest = put(upstream, status(code, WWW_Authenticate=challenge), place)
    await bench.run(f"{upstream.host}/app:1", credential())
    assert await bench.read(digest) == (SMALL if place == "midway" else LARGE)


@pytest.mark.parametrize(
    ("code", "failure", "sentence"),
    [
        (403, AuthenticationFailedError, "denies anonymous access to app"),
        (404, PullFailedError, "lacks blob"),
        (416, PullFailedError, "answers 416"),
        (501, PullFailedError, "answers 501"),
    ],
)
async def test_where_the_whole_is_refused_too_the_import_fails_at_once(
    bench: Bench, upstream: FaultyUpstream, code: int, failure: type[ImportFailedError], sentence: str
) -> None:
    upstream.add(make_image([LARGE]))
    upstream.always(digest_of(LARGE), status(code))
    with pytest.raises(failure, match=sentence):
        await bench.run(f"{upstream.host}/app:1")
    assert requests(upstream, digest_of(LARGE)) == (1, 1)
    assert bench.options.download.memory.take(bench.ahead_bytes)


async def test_a_refusal_to_a_range_ahead_costs_no_byte_twice(bench: Bench, upstream: FaultyUpstream) -> None:
    """A registry that answers 403 to parallel requests gives each range to the front."""
    upstream.add(make_image([LARGE]))
    refused: set[str] = set()

    async def once(request: web.Request, data: bytes) -> web.StreamResponse:
        asked = request.headers["Range"]
        if asked in refused:
            return await partial("bytes {start}-{last}/{size}")(request, data)
        refused.add(asked)
        return web.Response(status=403)

    upstream.always(digest_of(LARGE), on_ranges(once, after=2))
    await check_imported(bench, upstream, digest_of(LARGE))
    assert requests(upstream, digest_of(LARGE))[1] <= 1


async def test_the_whole_is_not_fetched_for_ever_from_an_upstream_that_cuts_it(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(make_image([LARGE]))
    sent = 0

    async def further(request: web.Request, data: bytes) -> web.StreamResponse:
        nonlocal sent
        sent += 20_000
        return await on_ranges(status(416), cut_whole_at=sent)(request, data)

    bench.backoff = replace(bench.backoff, progress_bytes=10_000)
    upstream.always(digest_of(LARGE), further)
    with pytest.raises(PullFailedError, match="broke off in the middle of its answer"):
        await bench.run(f"{upstream.host}/app:1")
    ranged, whole_ones = requests(upstream, digest_of(LARGE))
    assert ranged == 1
    assert ranges.MAX_REREADS < whole_ones <= 1 + ranges.MAX_REREADS + ATTEMPTS
