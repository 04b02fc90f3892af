"""Fixtures for all tests."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

# A busy machine makes single examples slow; the timeout of a test still applies.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Start the event loop's clock at 0, and jump to the next timer instead of waiting for it.

    For code that waits for timers only: a thread's work takes no virtual time, so timers overtake it.
    """
    loop, now = asyncio.get_running_loop(), 0.0
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def jump(timeout: float | None = None) -> object:
        nonlocal now
        ready = select(timeout if timeout is None else 0)
        if not ready and timeout:
            now += timeout
        return ready

    monkeypatch.setattr(selector, "select", jump)
    monkeypatch.setattr(loop, "time", lambda: now)
    yield
    monkeypatch.undo()
