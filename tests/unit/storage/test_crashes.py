"""A process is killed at every window of a commit, and at random: nothing is lost, nothing is left."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.blobs import Recovered
from tests.support.crashing_import import WINDOWS, open_store


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


def recover(root: Path) -> tuple[Recovered, int]:
    """Start anew; return what was removed and how many blobs there are, each read to its end."""

    async def start() -> tuple[Recovered, int]:
        store, records = open_store(root)
        recovered = await store.recover()
        for record in records.rows.values():
            await store.verify(record.tenant, record.digest)
        await store.aclose()
        records.close()
        return recovered, len(records.rows)

    return asyncio.run(start())


def files(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("window", "left", "blobs"),
    [
        (WINDOWS[0], Recovered(temporaries=1, orphans=0), 2),
        (WINDOWS[1], Recovered(temporaries=1, orphans=1), 2),
        (WINDOWS[2], Recovered(temporaries=0, orphans=1), 2),
        (WINDOWS[3], Recovered(temporaries=0, orphans=0), 3),
    ],
)
def test_a_kill_in_any_window_of_a_commit_leaves_whole_blobs_only(
    tmp_path: Path, window: str, left: Recovered, blobs: int
) -> None:
    run_until_killed(tmp_path, window)
    assert recover(tmp_path) == (left, blobs)
    assert len(files(tmp_path)) == blobs
    assert recover(tmp_path) == (Recovered(0, 0), blobs)


def test_kills_at_random_moments_lose_no_record_and_leave_no_orphan(tmp_path: Path) -> None:
    seen = 0
    for _ in range(6):
        run_until_killed(tmp_path, "never", random.uniform(0.0, 0.2))
        _, blobs = recover(tmp_path)
        assert blobs >= seen
        assert len(files(tmp_path)) == blobs
        seen = blobs
