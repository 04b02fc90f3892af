import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UpstreamUnavailableError
from registry.upstream.retry import (
    MAX_RETRY_AFTER_S,
    Backoff,
    Retries,
    is_outage,
    is_transient,
    parse_retry_after,
)

FAST = Backoff(attempts=3, outage_s=0, patience_s=1)
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DATE = format_datetime(NOW, usegmt=True)


@dataclass
class Operation:
    """An operation that fails, in virtual time."""

    backoff: Backoff
    waited: int = 0

    def __post_init__(self) -> None:
        self.retries = Retries(self.backoff, self._count, asyncio.get_running_loop().time)

    def _count(self, _error: UpstreamUnavailableError) -> None:
        self.waited += 1

    async def fail_for_good(self, error: UpstreamUnavailableError, attempt_s: float = 0.0) -> float:
        """Fail with every attempt until it is given up; return how long that took."""
        began = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamUnavailableError) as raised:
            await self._fail(error, attempt_s)
        assert raised.value is error
        return asyncio.get_running_loop().time() - began

    async def _fail(self, error: UpstreamUnavailableError, attempt_s: float) -> None:
        while True:
            await asyncio.sleep(attempt_s)
            await self.retries.wait(error)


@pytest.mark.usefixtures("virtual_time")
class TestRetries:
    async def test_an_outage_is_retried_for_two_minutes_at_least(self) -> None:
        operation = Operation(Backoff())
        took_s = await operation.fail_for_good(UpstreamUnavailableError("x is down"))
        assert 150 <= took_s < 175
        assert 8 <= operation.waited < 200

    async def test_what_is_no_outage_is_retried_a_few_times(self) -> None:
        operation = Operation(Backoff())
        took_s = await operation.fail_for_good(UpstreamUnavailableError("x answers 500", outage=False))
        assert operation.waited == 5
        assert took_s < 20

    async def test_an_outage_of_long_timeouts_gets_all_attempts(self) -> None:
        operation = Operation(Backoff())
        await operation.fail_for_good(UpstreamUnavailableError("x does not answer in time"), attempt_s=60)
        assert operation.waited == 5

    async def test_progress_begins_a_new_count_and_a_new_outage(self) -> None:
        operation, error = Operation(Backoff()), UpstreamUnavailableError("x")
        for _ in range(20):
            for _ in range(5):
                await operation.retries.wait(error)
            operation.retries.restart()
        assert await operation.fail_for_good(error) >= 150

    async def test_thousands_of_failures_are_counted_like_few(self) -> None:
        operation = Operation(Backoff(base_s=0.001, cap_s=0.002, outage_s=5))
        await operation.fail_for_good(UpstreamUnavailableError("x"))
        assert operation.waited > 2000

    async def test_retry_after_is_waited_for_at_least(self) -> None:
        operation, began = Operation(replace(FAST, patience_s=30)), asyncio.get_running_loop().time()
        await operation.retries.wait(UpstreamUnavailableError("x", retry_after_s=20))
        assert 20 <= asyncio.get_running_loop().time() - began <= 21

    async def test_more_patience_than_there_is_fails_at_once_and_says_for_how_long(self) -> None:
        with pytest.raises(UpstreamUnavailableError, match="10 minutes") as raised:
            await Operation(FAST).retries.wait(UpstreamUnavailableError("x", retry_after_s=600))
        assert raised.value.retry_after_s == 600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("1.5", 1.5),
        ("0", 0),
        (format_datetime(NOW + timedelta(seconds=60), usegmt=True), 60),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (str(int(NOW.timestamp()) + 90), 90),
        (str(int(NOW.timestamp()) - 90), 0),
        (str(int(NOW.timestamp() + 90) * 1000), 90),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("99999999", None),
        ("9" * 15, None),
        ("9" * 5000, None),
        ("1e30", None),
        ("inf", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
    ],
)
def test_retry_after_is_a_duration_a_date_or_a_time_of_the_epoch(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, DATE) == seconds


@pytest.mark.parametrize("skew", [timedelta(hours=-30), timedelta(0), timedelta(days=400)])
def test_a_date_is_measured_against_the_clock_of_its_own_answer(skew: timedelta) -> None:
    there = datetime.now(UTC) + skew
    date = format_datetime(there, usegmt=True)
    assert parse_retry_after(format_datetime(there + timedelta(seconds=60), usegmt=True), date) == 60
    assert parse_retry_after(str(int(there.timestamp()) + 60), date) == pytest.approx(60, abs=1)


def test_without_a_date_the_own_clock_counts() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (parse_retry_after(later) or 0) <= 60
    assert 55 < (parse_retry_after(later, "yesterday") or 0) <= 60


@given(st.text(max_size=40) | st.none(), st.text(max_size=40) | st.none())
def test_any_retry_after_is_a_bounded_time_or_nothing(value: str | None, date: str | None) -> None:
    assert 0 <= (parse_retry_after(value, date) or 0) <= MAX_RETRY_AFTER_S


def test_only_statuses_that_pass_are_tried_again() -> None:
    codes = (400, 401, 403, 404, 408, 416, 429, 500, 501, 502, 503, 504, 505, 507, 520, 526)
    assert [code for code in codes if is_transient(code)] == [408, 429, 500, 502, 503, 504, 507, 520, 526]
    assert [code for code in codes if is_outage(code)] == [408, 429, 502, 503, 504, 520]
