"""The minimum rate of an import over ten minutes of waiting."""

import pytest

from registry.errors import PullFailedError
from registry.upstream.minimum_rate import MinimumRate

MINIMUM = 64_000


class Upstream:
    """Sends at a rate of virtual time."""

    def __init__(self, minimum: int = MINIMUM) -> None:
        self.now = 1000.0
        self.rate = MinimumRate("registry.example.com:5000", minimum, now=lambda: self.now)

    def send(self, bytes_per_s: float, seconds: float, *, step_s: float = 1.0) -> None:
        for _ in range(round(seconds / step_s)):
            with self.rate.waiting():
                self.now += step_s
            self.rate.received(round(bytes_per_s * step_s))


def test_an_upstream_that_drips_fails_after_ten_minutes_and_not_before() -> None:
    upstream = Upstream()
    upstream.send(20_000, 599)
    with pytest.raises(
        PullFailedError, match=r"registry\.example\.com:5000 sends too slowly: 20 kB/s over 10"
    ):
        upstream.send(20_000, 1)


def test_each_ten_minutes_count_by_themselves() -> None:
    upstream = Upstream()
    upstream.send(10_000_000, 600)
    with pytest.raises(PullFailedError):
        upstream.send(20_000, 600)


@pytest.mark.parametrize("bytes_per_s", [MINIMUM, 10 * MINIMUM])
def test_an_upstream_that_is_fast_enough_may_take_hours(bytes_per_s: int) -> None:
    Upstream().send(bytes_per_s, 4 * 3600, step_s=10)


def test_two_minutes_of_downtime_are_no_failure_at_a_moderate_rate() -> None:
    upstream = Upstream()
    upstream.send(MINIMUM * 1.5, 200)
    with upstream.rate.waiting():
        upstream.now += 120
    upstream.send(MINIMUM * 1.5, 600)


def test_time_in_which_nothing_waits_does_not_count() -> None:
    upstream = Upstream()
    for _ in range(100):
        upstream.send(MINIMUM, 10)
        upstream.now += 3600  # storage is slow


def test_the_operators_bandwidth_limit_does_not_count() -> None:
    upstream = Upstream()
    for _ in range(100):
        with upstream.rate.waiting():
            upstream.now += 1
            with upstream.rate.paused():
                upstream.now += 1000
        upstream.rate.received(MINIMUM)


def test_downloads_that_wait_at_once_count_their_time_once_and_all_their_bytes() -> None:
    upstream = Upstream()
    for _ in range(700):
        with upstream.rate.waiting(), upstream.rate.waiting(), upstream.rate.waiting():
            upstream.now += 1
        for _ in range(3):
            upstream.rate.received(MINIMUM // 2)


def test_without_a_minimum_any_rate_is_enough() -> None:
    Upstream(0).send(1, 3600)
