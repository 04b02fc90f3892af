import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import PullFailedError, UpstreamUnavailableError
from registry.upstream.retry import Backoff, is_transient, parse_retry_after

FAST = Backoff(attempts=3, base_s=0.01, cap_s=0.02, patience_s=1)


async def test_waits_grow_no_longer_than_their_ceiling() -> None:
    started = time.monotonic()
    for failed in (1, 2):
        await FAST.wait(failed, UpstreamUnavailableError("x"))
    assert time.monotonic() - started < 0.5


async def test_the_last_try_raises_what_went_wrong() -> None:
    error = UpstreamUnavailableError("x is down")
    with pytest.raises(UpstreamUnavailableError) as raised:
        await FAST.wait(3, error)
    assert raised.value is error


async def test_retry_after_is_waited_for_at_least() -> None:
    started = asyncio.get_running_loop().time()
    await FAST.wait(1, UpstreamUnavailableError("x", retry_after_s=0.2))
    assert asyncio.get_running_loop().time() - started >= 0.19


async def test_more_patience_than_there_is_fails_at_once() -> None:
    with pytest.raises(PullFailedError, match="10 minutes"):
        await FAST.wait(1, UpstreamUnavailableError("x", retry_after_s=600))


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert parse_retry_after("120") == 120
    later = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert later is not None
    assert 55 < later <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@given(st.text(max_size=40) | st.none())
def test_any_retry_after_is_a_time_or_nothing(value: str | None) -> None:
    assert (parse_retry_after(value) or 0) >= 0


def test_only_statuses_that_pass_are_tried_again() -> None:
    codes = (400, 401, 403, 404, 408, 416, 429, 500, 501, 502, 503, 504, 505)
    assert [code for code in codes if is_transient(code)] == [408, 429, 500, 502, 503, 504]
