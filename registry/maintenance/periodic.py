"""Upkeep inside a server: again and again, whatever goes wrong once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from registry.errors import ConflictError

_LOOK_S = 60.0
_log = structlog.get_logger(__name__)


async def repeat(name: str, interval_s: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
    """Look every minute, or more often than `interval_s`, whether the work is due; never returns.

    Args:
        work: Does the work if it is due; several servers ask at about the same time.
    """
    while True:
        await asyncio.sleep(min(_LOOK_S, interval_s / 2) * random.uniform(0.8, 1.2))  # noqa: S311 (spread)
        try:
            await work()
        except ConflictError:
            _log.debug("upkeep.busy", work=name)
        except Exception as error:  # noqa: BLE001 - the next time may go better, and nothing hangs on this one
            _log.warning("upkeep.failed", work=name, error=type(error).__name__)
