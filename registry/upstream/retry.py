"""How long to wait before another try: full jitter, and an upstream's Retry-After within bounds."""

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
    """Bounds on trying again.

    Attributes:
        attempts: Tries in a row without progress, the first one included.
        base_s: Ceiling of the first wait; it doubles from try to try.
        cap_s: Ceiling of every wait.
        patience_s: The longest Retry-After that is waited for.
        progress_bytes: What a try has to bring for the count to start again: else an upstream that gives a
            byte a try would be tried for ever.
    """

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 90.0
    progress_bytes: int = 1 << 20

    async def wait(self, failed: int, error: UpstreamUnavailableError) -> None:
        """Wait after the `failed`-th try in a row, from 1.

        Raises:
            PullFailedError: No tries are left, or the upstream asks for more patience than there is.
        """
        if failed >= self.attempts:
            raise error
        asked_s = error.retry_after_s or 0.0
        if asked_s > self.patience_s:
            minutes = round(asked_s / 60)
            raise PullFailedError(f"{error.sentence}; it asks to be left alone for {minutes} minutes")
        await asyncio.sleep(asked_s + _random.uniform(0, min(self.cap_s, self.base_s * 2 ** (failed - 1))))


def is_passing(status: int) -> bool:
    """Tell whether an HTTP status promises better times: try again."""
    if status in {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}:
        return False
    return status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def parse_retry_after(value: str | None) -> float | None:
    """Read a Retry-After, in seconds or as a date (RFC 9110, section 10.2.3); None when it is neither."""
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
