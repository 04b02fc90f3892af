"""Periodic maintenance inside a server, which continues after failures."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from registry.errors import ConflictError

_POLL_S = 60.0
_log = structlog.get_logger(__name__)


async def repeat(name: str, interval_s: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
    """Call `work` every minute, or twice per `interval_s` if that is more often; never returns.

    Args:
        work: Does the work if it is due; several servers call it at about the same time.
    """
    while True:
        await asyncio.sleep(min(_POLL_S, interval_s / 2) * random.uniform(0.8, 1.2))  # noqa: S311 (spread)
        try:
            await work()
        except ConflictError:
            _log.debug("upkeep.busy", work=name)
        except Exception as error:  # noqa: BLE001 - the next call retries, and no request depends on this one
            _log.warning("upkeep.failed", work=name, error=type(error).__name__)
