"""Helpers that run the parts of an import concurrently and fail with a single error."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from registry.errors import ImportFailedError

T = TypeVar("T")


async def gather_or_cancel(parts: Iterable[Awaitable[Any]]) -> list[Any]:
    """Run all parts concurrently and return their results in order. If one fails, the others are cancelled.

    Raises:
        ImportFailedError: The first of these. Other errors are raised only if there is no such error.
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


async def gather_both(first: Awaitable[Any], second: Awaitable[T]) -> T:
    """Run both with `gather_or_cancel` and return the result of the second."""
    result: T = (await gather_or_cancel((first, second)))[1]
    return result


async def _run(part: Awaitable[T]) -> T:
    return await part
