"""A process is killed at every window of a commit, and at random: nothing is lost, nothing is left."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.upkeep.gc import Collector
from tests.support.blobs import put
from tests.support.crashing_import import WINDOWS, open_store
from tests.support.key_records import NothingDies, check_lease

KILLS = int(os.environ.get("CRISPER_TEST_KILLS", "20"))


def run_until_killed(root: Path, window: str, delay_s: float | None = None) -> None:
    command = [sys.executable, "-m", "tests.support.crashing_import", str(root), window]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if delay_s is not None:
            time.sleep(delay_s)
            process.kill()
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGKILL, b"")


async def recover(root: Path) -> tuple[int, int, int]:
    """Restart and collect; return how many temporaries, orphans and whole blobs there were."""
    store, records = open_store(root)
    temporaries = await store.recover()
    orphans = (await Collector(store.objects, NothingDies(records), check_lease).run(0)).objects
    for record in records.rows.values():
        await store.verify(record.tenant, record.digest)
    await store.aclose()
    records.close()
    return temporaries, orphans, len(records.rows)


def files(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("window", "temporaries", "orphans", "blobs"),
    [
        (WINDOWS[0], 1, 0, 2),
        (WINDOWS[1], 1, 1, 2),
        (WINDOWS[2], 0, 1, 2),
        (WINDOWS[3], 0, 0, 3),
    ],
)
async def test_a_kill_in_any_window_of_a_commit_leaves_whole_blobs_only(
    tmp_path: Path, window: str, temporaries: int, orphans: int, blobs: int
) -> None:
    await asyncio.to_thread(run_until_killed, tmp_path, window)
    assert await recover(tmp_path) == (temporaries, orphans, blobs)
    assert len(files(tmp_path)) == blobs
    assert await recover(tmp_path) == (0, 0, blobs)


async def test_kills_at_random_moments_lose_no_record_and_leave_no_orphan(tmp_path: Path) -> None:
    seen = 0
    for _ in range(KILLS):
        await asyncio.to_thread(run_until_killed, tmp_path, "never", random.uniform(0.0, 0.2))
        _, _, blobs = await recover(tmp_path)
        assert blobs >= seen
        assert len(files(tmp_path)) == blobs
        seen = blobs


async def test_a_commit_syncs_bytes_then_name_then_record_then_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def fsync(fd: int) -> None:
        genuine_fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        steps.append(f"fsync {path.relative_to(tmp_path).parts[0 if path.is_file() and path.suffix else 1]}")

    def link(source: Path, target: Path) -> None:
        genuine_link(source, target)
        steps.append("link")

    genuine_fsync, genuine_link = os.fsync, os.link
    store, records = open_store(tmp_path)
    await put(store, "acme", b"make the folder" * 1000)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    await put(store, "acme", b"a blob" * 1000)
    steps.append("answer")
    monkeypatch.undo()
    await store.aclose()
    records.close()
    named = steps.index("link")
    assert steps[0] == "fsync incoming"
    assert steps[named + 1 :] == ["fsync objects", "fsync records.jsonl", "answer"]
