"""Parts of one import that run side by side: all of them, or one failure."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from registry.errors import ImportFailedError

T = TypeVar("T")


async def gather_or_cancel(parts: Iterable[Awaitable[Any]]) -> list[Any]:
    """Run every part to its end, and return their results in order; when one fails, the others are stopped.

    Raises:
        ImportFailedError: Whichever part failed first; other errors only where there is none of these.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(part)) for part in parts]
    except BaseExceptionGroup as errors:
        known = (error for error in errors.exceptions if isinstance(error, ImportFailedError))
        failure = next(known, errors.exceptions[0])
    else:
        return [task.result() for task in tasks]
    raise failure


async def together(first: Awaitable[Any], second: Awaitable[T]) -> T:
    """Run both as `gather_or_cancel` does, and return the second's result."""
    result: T = (await gather_or_cancel((first, second)))[1]
    return result


async def _run(part: Awaitable[T]) -> T:
    return await part
