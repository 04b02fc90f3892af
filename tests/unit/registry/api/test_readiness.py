"""One readiness check at a time, shared by all requests."""

import asyncio

import pytest
from structlog.testing import capture_logs

from registry.api import health
from registry.api.health import Readiness
from storage.errors import StorageUnavailableError


class CountedProbe:
    """Counts its calls. Fails while `broken`."""

    def __init__(self) -> None:
        self.calls = 0
        self.broken = False

    async def __call__(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.broken:
            raise OSError


async def test_concurrent_requests_share_one_check() -> None:
    probe = CountedProbe()
    readiness = Readiness({"catalog": probe})
    assert await asyncio.gather(*(readiness.failing() for _ in range(100))) == [[]] * 100
    assert probe.calls == 1


async def test_a_result_is_checked_again_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = CountedProbe()
    readiness = Readiness({"catalog": probe, "ledger": CountedProbe()})
    assert await readiness.failing() == []
    probe.broken = True
    assert await readiness.failing() == []
    monkeypatch.setattr(health, "SHARED_S", 0.0)
    readiness = Readiness({"catalog": probe, "ledger": CountedProbe()})
    assert await readiness.failing() == ["catalog"]
    probe.broken = False
    assert await readiness.failing() == []


async def test_a_failure_is_logged_once_with_its_cause_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        cause = OSError("password=hunter2")
        raise StorageUnavailableError("storage refuses these credentials: check them") from cause

    monkeypatch.setattr(health, "SHARED_S", 0.0)
    probes = {"storage": refuse}
    readiness = Readiness(probes)
    with capture_logs() as logs:
        for _ in range(3):
            assert await readiness.failing() == ["storage"]
        probes["storage"] = CountedProbe()
        assert await readiness.failing() == []
    cause = "StorageUnavailableError: storage refuses these credentials: check them; OSError"
    assert logs == [
        {"event": "dependency.failed", "log_level": "error", "dependency": "storage", "cause": cause},
        {"event": "dependency.recovered", "log_level": "info", "dependency": "storage"},
    ]
