"""Retries with exponential backoff and full jitter; honours an upstream's Retry-After within limits."""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from registry.errors import PullFailedError, UpstreamUnavailableError

_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Limits on retries.

    Attributes:
        attempts: Consecutive attempts without progress, including the first.
        base_s: Maximum of the first wait; doubles with every attempt.
        cap_s: Maximum of every wait.
        patience_s: The longest Retry-After that is honoured.
        progress_bytes: Bytes that an attempt must transfer to reset the count. Without it, an upstream that
            sends one byte per attempt would be retried forever.
    """

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 90.0
    progress_bytes: int = 1 << 20

    async def wait(self, failed: int, error: UpstreamUnavailableError) -> None:
        """Wait after the `failed`-th consecutive failure, counted from 1.

        Raises:
            PullFailedError: No attempts are left, or the Retry-After is longer than `patience_s`.
        """
        if failed >= self.attempts:
            raise error
        asked_s = error.retry_after_s or 0.0
        if asked_s > self.patience_s:
            minutes = round(asked_s / 60)
            raise PullFailedError(f"{error.sentence}; it asks to retry after {minutes} minutes")
        await asyncio.sleep(asked_s + _random.uniform(0, min(self.cap_s, self.base_s * 2 ** (failed - 1))))


def is_transient(status: int) -> bool:
    """Return whether an HTTP status indicates a transient failure, which can be retried."""
    if status in {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}:
        return False
    return status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def parse_retry_after(value: str | None) -> float | None:
    """Parse a Retry-After, in seconds or as a date (RFC 9110, section 10.2.3); None if it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
