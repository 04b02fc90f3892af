"""Request bodies, which strangers may send as slowly as they like."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from aiohttp import web

BODY_S: Final = 10.0

T = TypeVar("T")


async def in_time(reading: Awaitable[T]) -> T:
    """Read a request's body, which has ten seconds to arrive.

    Raises:
        HTTPRequestTimeout: It has not arrived by then.
    """
    try:
        async with asyncio.timeout(BODY_S):
            return await reading
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The body did not arrive in time.") from None
