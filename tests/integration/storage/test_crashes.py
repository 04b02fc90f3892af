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
from tests.support.blobs import FORMATS, put
from tests.support.crashing_import import WINDOWS, open_store
from tests.support.key_records import NothingDies, check_lease

KILLS = int(os.environ.get("CRISPER_TEST_KILLS", "20"))


def run_until_killed(root: Path, window: str, format_name: str, delay_s: float | None = None) -> None:
    command = [sys.executable, "-m", "tests.support.crashing_import", str(root), window, format_name]
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


# Unfinished objects, orphans and blobs after a kill in each window of `WINDOWS`.
LEFT = {
    "oeb1": [(1, 0, 2), (1, 1, 2), (0, 1, 2), (0, 0, 3)],
    "oeb2": [(2, 0, 2), (2, 1, 2), (1, 1, 2), (1, 2, 2), (0, 2, 2), (0, 0, 3)],
}
OBJECTS = {"oeb1": 1, "oeb2": 2}


@pytest.mark.parametrize(
    ("format_name", "window", "left"),
    [(name, *case) for name in FORMATS for case in zip(WINDOWS[name], LEFT[name], strict=True)],
)
async def test_a_kill_in_any_window_of_a_commit_leaves_whole_blobs_only(
    tmp_path: Path, format_name: str, window: str, left: tuple[int, int, int]
) -> None:
    await asyncio.to_thread(run_until_killed, tmp_path, window, format_name)
    assert await recover(tmp_path) == left
    blobs = left[2]
    assert len(files(tmp_path)) == blobs * OBJECTS[format_name]
    assert await recover(tmp_path) == (0, 0, blobs)


@pytest.mark.parametrize("format_name", FORMATS)
async def test_kills_at_random_moments_lose_no_record_and_leave_no_orphan(
    tmp_path: Path, format_name: str
) -> None:
    seen = 0
    for _ in range(KILLS // len(FORMATS)):
        delay_s = random.uniform(0.0, 0.2)
        await asyncio.to_thread(run_until_killed, tmp_path, "never", format_name, delay_s)
        _, _, blobs = await recover(tmp_path)
        assert blobs >= seen
        assert len(files(tmp_path)) == blobs * OBJECTS[format_name]
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
