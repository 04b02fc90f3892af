"""Requests that a node sends to its registry itself, over TLS."""

import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp import hdrs

from registry.errors import RegistryError

_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
_MAX_ANSWER_BYTES = 64 << 10


class NodeRequestError(RegistryError):
    """The registry refused a node's request.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the registry answered {status}: {detail}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """Response of a registry.

    Attributes:
        at: Time of the registry, or of this machine if the response has no `Date`.
    """

    document: Mapping[str, object]
    at: datetime


async def send(
    method: str,
    url: str,
    body: Mapping[str, str],
    tls: ssl.SSLContext,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request and return the response, which is a JSON object.

    Raises:
        NodeRequestError: The status is not 200.
        RegistryError: The registry cannot be reached.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                method, url, json=body, headers=headers, ssl=tls, allow_redirects=False
            ) as response,
        ):
            status, text = response.status, await response.content.read(_MAX_ANSWER_BYTES)
            date = response.headers.get(hdrs.DATE, "")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RegistryError(
            f"{url} cannot be reached: {error or type(error).__name__}; check the URL and the network"
        ) from None
    try:
        answer = json.loads(text.decode())
    except ValueError:
        answer = {}
    if status != 200 or not isinstance(answer, dict):  # noqa: PLR2004 (RFC 9110, section 15.3.1)
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise NodeRequestError(status, str(detail or "without a reason"))
    return Answer(answer, _parsed(date) or datetime.now(UTC))


def _parsed(date: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(date)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None
