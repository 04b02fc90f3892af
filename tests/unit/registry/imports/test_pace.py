import asyncio

import pytest

from registry.imports.bandwidth import Bandwidth
from registry.imports.plan import Plan
from registry.imports.progress import Speed, TransferProgress
from registry.model.imports import Progress, Stage
from registry.oci.documents import Descriptor
from storage.digest import Digest


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plan(*sizes: int) -> Plan:
    layers = tuple(Descriptor("layer", Digest.of(bytes([size % 256])), size) for size in sizes)
    return Plan((), layers, ())


async def test_a_bandwidth_is_shared_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    time, slept = Time(), 0.0

    async def sleep(delay_s: float) -> None:
        nonlocal slept
        slept += delay_s
        time.now += delay_s

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bandwidth = Bandwidth(1000, time)
    for _ in range(100):
        await bandwidth.pace(100)
    assert slept == pytest.approx(10, abs=0.3)


async def test_an_idle_bandwidth_saves_up_no_more_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    time, slept = Time(), []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bandwidth = Bandwidth(1000, time)
    time.now += 3600
    await bandwidth.pace(1000)
    assert slept == [pytest.approx(0.75)]


async def test_no_limit_never_waits() -> None:
    await asyncio.wait_for(Bandwidth(0).pace(10**15), 1)


def test_a_speed_follows_the_last_seconds() -> None:
    time = Time()
    speed = Speed(time)
    for _ in range(10):
        speed.add(1000)
        time.now += 1
    assert speed.bytes_per_s == pytest.approx(1000, rel=0.01)
    time.now += 20
    assert speed.bytes_per_s < 10


def test_only_bytes_from_the_network_count_as_speed() -> None:
    time, told = Time(), list[Progress]()
    progress = TransferProgress(plan(4000, 6000), told.append, time)
    progress.found(4000)
    progress.layer_done()
    progress.resumed(3000)
    time.now += 1
    progress.fetched(500)
    time.now += 1
    progress.fetched(500)
    latest = told[-1]
    assert (latest.bytes_done, latest.bytes_total, latest.percent) == (8000, 10_000, 80)
    assert latest.bytes_per_s == pytest.approx(500, rel=0.1)
    assert latest.eta_s in {4, 5}
    assert str(latest).startswith("pulling: 1 of 2 layers, 80 %, 0.0 MB/s, ")
    assert progress.figures() == {
        "fetched_bytes": 1000,
        "resumed_bytes": 3000,
        "found_bytes": 4000,
        "duration_s": 2.0,
    }
    progress.take_back(4000)
    assert told[-1].bytes_done == 4000


def test_progress_says_no_more_than_is_known() -> None:
    assert str(Progress(Stage.PULLING)) == "pulling"
    assert str(Progress(Stage.PULLING, 3, 7, 41, 100)) == "pulling: 3 of 7 layers, 41 %"
    known = Progress(Stage.PULLING, 3, 7, 41_000_000, 100_000_000, 2_950_000)
    assert str(known) == "pulling: 3 of 7 layers, 41 %, 3.0 MB/s, 20 s left"
    assert Progress(Stage.STORING, 7, 7, 100, 100, 50).eta_s is None


def test_a_later_stage_is_reported_once_all_layers_are_here() -> None:
    reports: list[Progress] = []
    progress = TransferProgress(plan(10, 20), reports.append, Time())
    compressing = Progress(Stage.COMPRESSING, 1, 2)
    for _ in range(2):
        progress.follow(compressing)
        progress.layer_done()
    assert {report.stage for report in reports} == {Stage.PULLING}
    progress.follow(compressing)
    assert reports[-1] == compressing
