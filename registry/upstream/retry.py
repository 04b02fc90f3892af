"""Retries with exponential backoff and full jitter; honours an upstream's Retry-After within limits."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from registry.errors import UpstreamUnavailableError

MAX_RETRY_AFTER_S: Final = 86_400.0  # longer ones are mistakes
_EPOCH_S: Final = 1e9  # larger numbers are times, not durations
_MILLISECONDS: Final = 1e12
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
#: A server that is down, or that cannot reach the one behind it; 52x are Cloudflare's.
_OUTAGES: Final = frozenset({408, 429, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Limits on retries.

    Attributes:
        attempts: Minimum number of consecutive attempts without progress, including the first.
        outage_s: Minimum time for which attempts continue while the upstream is down.
        base_s: Maximum of the first wait; doubles with every attempt.
        cap_s: Maximum of every wait.
        patience_s: The longest Retry-After that is waited for within the import.
        progress_bytes: Bytes that an attempt must transfer to reset the count. Without it, an upstream that
            sends one byte per attempt would be retried forever.
    """

    attempts: int = 6
    outage_s: float = 150.0
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 90.0
    progress_bytes: int = 1 << 20


class Retries:
    """Consecutive failures of one operation, and the waits between its attempts.

    Attributes:
        failed: Number of failures since the last progress.
    """

    def __init__(
        self,
        backoff: Backoff,
        waiting: Callable[[UpstreamUnavailableError], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without failures.

        Args:
            waiting: Called with the failure before each wait.
            now: Monotonic clock.
        """
        self._backoff = backoff
        self._waiting = waiting
        self._now = now
        self._since = 0.0
        self.failed = 0

    def restart(self) -> None:
        """Forget the failures, because an attempt made progress."""
        self.failed = 0

    async def wait(self, error: UpstreamUnavailableError) -> None:
        """Wait after a failure.

        Raises:
            UpstreamUnavailableError: No attempts are left, or the Retry-After is longer than `patience_s`.
        """
        limits = self._backoff
        if not self.failed:
            self._since = self._now()
        self.failed += 1
        is_over = not error.outage or self._now() - self._since >= limits.outage_s
        if self.failed >= limits.attempts and is_over:
            raise error
        asked_s = error.retry_after_s or 0.0
        if asked_s > limits.patience_s:
            minutes = round(asked_s / 60)
            raise UpstreamUnavailableError(
                f"{error.sentence}; it asks to retry after {minutes} minutes", asked_s
            )
        self._waiting(error)
        longest_s = min(limits.cap_s, limits.base_s * 2 ** min(self.failed - 1, 30))
        await asyncio.sleep(asked_s + _random.uniform(0, longest_s))


def is_transient(status: int) -> bool:
    """Return whether an HTTP status indicates a transient failure, which can be retried."""
    if status in {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}:
        return False
    return status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def is_outage(status: int) -> bool:
    """Return whether an HTTP status means that the server is down or overloaded, and will come back."""
    return status in _OUTAGES


def parse_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Parse a Retry-After (RFC 9110, section 10.2.3), in seconds from now; None if it cannot be meant.

    It is a number of seconds or a date, but some registries send a time in seconds of the epoch.

    Args:
        date: The response's Date. It makes the result right if the upstream's clock is wrong.
    """
    now = _parse_date(date) or datetime.now(UTC)
    if value is None:
        return None
    if _NUMBER.fullmatch(value.strip()):
        seconds = float(value)
        if seconds >= _EPOCH_S:
            seconds = seconds / (1000 if seconds >= _MILLISECONDS else 1) - now.timestamp()
    elif (at := _parse_date(value)) is not None:
        seconds = (at - now).total_seconds()
    else:
        return None
    return max(0.0, seconds) if seconds <= MAX_RETRY_AFTER_S else None


def _parse_date(text: str | None) -> datetime | None:
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        at = parsedate_to_datetime(text or "")
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None
