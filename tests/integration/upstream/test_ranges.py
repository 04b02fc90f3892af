"""Large layers over several connections, from upstreams that cut, lie and throttle."""

import asyncio
import random
from dataclasses import replace

import pytest
from aiohttp import web

from registry.errors import AuthenticationFailedError, PullFailedError
from registry.imports.transfer import TransferOptions
from registry.upstream import ranges
from registry.upstream.ranges import DownloadOptions, PrefetchBudget
from tests.integration.upstream.conftest import FAST, Bench, credential
from tests.support.distribution import digest_of, make_image
from tests.support.upstream_faults import (
    Fault,
    FaultyUpstream,
    body,
    cut_after,
    drip,
    ranged,
    redirect,
    slow_by,
    status,
)

RANGE = 100_000
LAYER = random.Random(12).randbytes(10 * RANGE + 7)
IMAGE = make_image([LAYER])
DIGEST = digest_of(LAYER)


@pytest.fixture(autouse=True)
def small_ranges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.backoff = replace(FAST, attempts=6, progress_bytes=RANGE)
    monkeypatch.setattr(ranges, "RANGE_BYTES", RANGE)
    monkeypatch.setattr(ranges, "MIN_BYTES", 4 * RANGE)


async def imported(bench: Bench, upstream: FaultyUpstream, *listed: FaultyUpstream) -> None:
    """Import `app:1`, and check that it is IMAGE whole and that all memory was given back."""
    upstream.add(IMAGE)
    hosts = tuple(server.host for server in (upstream, *listed))
    await bench.run(f"{upstream.host}/app:1", insecure=hosts)
    await bench.holds(IMAGE)
    assert bench.reports[-1].bytes_done == len(LAYER)
    assert_nothing_is_held(bench)


def assert_nothing_is_held(bench: Bench) -> None:
    memory = bench.options.download.memory
    assert memory.take(bench.ahead_bytes)
    assert not memory.take(1)


async def test_a_layer_comes_in_ranges_each_byte_once_and_several_at_a_time(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    running = most = 0

    async def slow(request: web.Request, data: bytes) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return ranged(request, data, "application/octet-stream")

    upstream.fail(DIGEST, *[slow] * 11)
    await imported(bench, upstream)
    asked = sorted(upstream.ranges(DIGEST))
    assert asked == [(at, min(at + RANGE, len(LAYER))) for at in range(0, len(LAYER), RANGE)]
    assert 2 < most <= 4


async def test_a_layer_whose_first_range_comes_quickly_is_left_to_one_connection(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    bench.options = TransferOptions(DownloadOptions(PrefetchBudget(bench.ahead_bytes), quick_bytes_per_s=1))
    await imported(bench, upstream)
    asked = [seen.range for seen in upstream.seen if seen.path.endswith(DIGEST)]
    assert asked == [f"bytes=0-{RANGE - 1}", f"bytes={RANGE}-{len(LAYER) - 1}"]


async def test_a_layer_whose_ranges_take_long_to_start_is_left_to_one_connection(
    bench: Bench, upstream: FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(request: web.Request, data: bytes) -> web.StreamResponse:
        await asyncio.sleep(0.5)  # as a registry that reads the whole blob for every request
        return ranged(request, data, "application/octet-stream")

    monkeypatch.setattr(ranges, "SLOW_START_S", 0.1)
    upstream.fail(DIGEST, late)
    await imported(bench, upstream)
    assert upstream.ranges(DIGEST) == [(0, RANGE), (RANGE, len(LAYER))]


async def test_bytes_that_arrived_before_a_cut_are_kept(bench: Bench, upstream: FaultyUpstream) -> None:
    async def pace(_count: int) -> None:
        await asyncio.sleep(0.2)  # the rest arrives and the connection breaks in the meantime

    bench.options = TransferOptions(DownloadOptions(PrefetchBudget(bench.ahead_bytes), 1, pace=pace))
    upstream.fail(DIGEST, cut_after(7 * RANGE))
    await imported(bench, upstream)
    assert upstream.starts(DIGEST) == [0, 7 * RANGE]


async def test_a_layer_that_is_small_is_one_request(bench: Bench, upstream: FaultyUpstream) -> None:
    small = make_image([LAYER[: 3 * RANGE]])
    upstream.add(small)
    await bench.run(f"{upstream.host}/app:1")
    await bench.holds(small)
    assert upstream.ranges(digest_of(LAYER[: 3 * RANGE])) == []


async def test_without_memory_nothing_is_fetched_ahead(bench: Bench, upstream: FaultyUpstream) -> None:
    assert bench.options.download.memory.take(bench.ahead_bytes)
    upstream.add(IMAGE)
    await bench.run(f"{upstream.host}/app:1")
    await bench.holds(IMAGE)
    assert upstream.ranges(DIGEST) == sorted(upstream.ranges(DIGEST))
    bench.options.download.memory.give_back(bench.ahead_bytes)


async def whole(_request: web.Request, data: bytes) -> web.StreamResponse:
    return web.Response(body=data)


async def another_range(_request: web.Request, data: bytes) -> web.StreamResponse:
    where = {"Content-Range": f"bytes 5-{RANGE - 1}/{len(data)}"}
    return web.Response(status=206, body=data[5:RANGE], headers=where)


async def unnamed_range(_request: web.Request, data: bytes) -> web.StreamResponse:
    return web.Response(status=206, body=data[:RANGE])


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (whole, 1),
        (another_range, 2),
        (unnamed_range, 2),
        (status(416), 2),
        (status(400), 2),
        (status(501), 2),
    ],
)
async def test_an_upstream_without_ranges_is_read_as_one_stream(
    bench: Bench, upstream: FaultyUpstream, fault: Fault, requests: int
) -> None:
    upstream.fail(DIGEST, *[fault] * (requests - 1), whole)
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == requests


async def test_an_upstream_that_ignores_ranges_midway_is_read_as_one_stream(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.fail(DIGEST, genuine, *[whole] * 12)
    await imported(bench, upstream)


async def genuine(request: web.Request, data: bytes) -> web.StreamResponse:
    return ranged(request, data, "application/octet-stream")


@pytest.mark.parametrize("tenth", range(10))
async def test_ranges_that_are_cut_anywhere_are_fetched_on_from_where_they_were(
    bench: Bench, upstream: FaultyUpstream, tenth: int
) -> None:
    cut = cut_after(tenth * RANGE // 10)
    upstream.fail(DIGEST, genuine, cut, genuine, cut, cut, genuine, cut)
    await imported(bench, upstream)
    asked = sum(stop - start for start, stop in upstream.ranges(DIGEST))
    assert asked <= len(LAYER) + 5 * RANGE


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_refusals_of_ranges_are_waited_out_at_the_front(
    bench: Bench, upstream: FaultyUpstream, code: int
) -> None:
    upstream.fail(DIGEST, status(code), genuine, *[status(code, Retry_After="0")] * 3, genuine, status(code))
    await imported(bench, upstream)


async def test_an_upstream_that_only_takes_one_at_a_time_is_asked_by_fewer(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    running = refused = 0

    async def one_at_a_time(request: web.Request, data: bytes) -> web.StreamResponse:
        nonlocal running, refused
        if running:
            refused += 1
            return web.Response(status=429, headers={"Retry-After": "0"})
        running += 1
        await asyncio.sleep(0.02)
        running -= 1
        return ranged(request, data, "application/octet-stream")

    upstream.fail(DIGEST, *[one_at_a_time] * 40)
    await imported(bench, upstream)
    assert refused <= 10


async def test_a_token_refused_midway_is_replaced_once_for_all_ranges(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")

    async def forget(request: web.Request, data: bytes) -> web.StreamResponse:
        upstream.tokens.clear()
        return ranged(request, data, "application/octet-stream")

    upstream.fail(DIGEST, forget)
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    assert upstream.count("/token") == 2


async def test_credentials_that_are_withdrawn_midway_end_the_import(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")

    async def withdraw(request: web.Request, data: bytes) -> web.StreamResponse:
        upstream.tokens.clear()
        upstream.token_status = 401
        return ranged(request, data, "application/octet-stream")

    upstream.fail(DIGEST, withdraw)
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert_nothing_is_held(bench)


async def test_tokens_of_five_seconds_are_renewed_in_the_middle_of_a_layer(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.expires_in = 5
    lapsed: list[str] = []

    async def checked(request: web.Request, data: bytes) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")[7:]
        if token not in upstream.tokens:
            lapsed.append(token)
            return web.Response(status=403)
        return await slow_by(2.5)(request, data)

    upstream.fail(DIGEST, *[checked] * 11)
    started = asyncio.get_running_loop().time()
    await bench.run(f"{upstream.host}/app:1", credential())
    assert asyncio.get_running_loop().time() - started > 5
    await bench.holds(IMAGE)
    assert lapsed == []
    assert upstream.count("/token") >= 2
    assert_nothing_is_held(bench)


def wrong(start: int) -> Fault:
    """Answer the range at `start` with other bytes, and every other one as it is."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        lie = data[:start] + b"!" + data[start + 1 :]
        return ranged(request, lie, "application/octet-stream")

    return fault


async def longer(request: web.Request, data: bytes) -> web.StreamResponse:
    answer = ranged(request, data, "application/octet-stream")
    response = web.StreamResponse(status=206, headers=answer.headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    assert isinstance(answer.body, bytes)
    await response.write(answer.body + b"!")
    await response.write_eof()
    return response


async def shorter(request: web.Request, data: bytes) -> web.StreamResponse:
    answer = ranged(request, data, "application/octet-stream")
    response = web.StreamResponse(status=206, headers=answer.headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    assert isinstance(answer.body, bytes)
    await response.write(answer.body[:-1])
    await response.write_eof()
    return response


async def test_wrong_bytes_in_one_range_are_fetched_once_more_as_a_whole(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.fail(DIGEST, *[wrong(5 * RANGE + 1)] * 11)
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 12


async def test_wrong_bytes_in_ranges_and_in_the_whole_are_a_failure_to_pull(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, *[wrong(5 * RANGE + 1)] * 12)
    with pytest.raises(PullFailedError, match="other bytes for the"):
        await bench.run(f"{upstream.host}/app:1")
    assert bench.backend.objects == {}
    assert_nothing_is_held(bench)


@pytest.mark.parametrize("fault", [longer, shorter])
async def test_ranges_that_are_longer_or_shorter_than_they_say_are_made_up_for(
    bench: Bench, upstream: FaultyUpstream, fault: Fault
) -> None:
    upstream.fail(DIGEST, genuine, genuine, fault, genuine, fault)
    await imported(bench, upstream)


async def test_ranges_that_drip_are_given_up(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, genuine, *[drip] * 30)
    with pytest.raises(PullFailedError, match="too slowly"):
        await bench.run(f"{upstream.host}/app:1")
    assert upstream.count(DIGEST) <= 2 * bench.backoff.attempts + 3
    assert_nothing_is_held(bench)


async def test_ranges_are_redirected_each_by_itself(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream
) -> None:
    other.add(IMAGE)
    upstream.fail(DIGEST, *[redirect(f"http://{other.host}/blobs/{DIGEST}")] * 11)
    await imported(bench, upstream, other)
    assert len(other.ranges(DIGEST)) == 11


async def test_a_body_that_claims_to_be_ranged_and_is_the_whole_is_not_believed(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, genuine, *[body(b"x" * len(LAYER))] * 30)
    with pytest.raises(PullFailedError):
        await bench.run(f"{upstream.host}/app:1")


async def test_a_cancelled_import_ends_every_connection_and_holds_no_memory(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def hang(_request: web.Request, _data: bytes) -> web.StreamResponse:
        waiting.set()
        await gone.wait()
        return web.Response()

    upstream.fail(DIGEST, genuine, *[hang] * 10)
    running = asyncio.create_task(bench.run(f"{upstream.host}/app:1"))
    await asyncio.wait_for(waiting.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert_nothing_is_held(bench)
    gone.set()


def test_memory_is_never_given_out_twice() -> None:
    memory = PrefetchBudget(10)
    assert [memory.take(6), memory.take(6), memory.take(4), memory.take(1)] == [True, False, True, False]
    memory.give_back(6)
    assert memory.take(6)
