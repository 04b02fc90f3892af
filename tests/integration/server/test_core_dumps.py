"""No process of a server leaves its memory in a file, or shows it to other processes of its user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.crisper import CrisperServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrisperServer]:
    env = {"CRISPER_WORKERS": "2"}
    with CrisperServer(tmp_path_factory.mktemp("dumps") / "server", env=env) as server:
        yield server


def family(server: CrisperServer) -> dict[int, str]:
    """Return the processes of a server: pid and command line."""
    root = psutil.Process(server.process.pid)
    return {each.pid: " ".join(each.cmdline()) for each in (root, *root.children(recursive=True))}


def test_no_process_dumps_its_memory(server: CrisperServer) -> None:
    found = family(server)
    assert len(found) == 4, found  # parent, two workers, ledger
    for pid in found:
        limits = Path(f"/proc/{pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"]
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0


def test_other_processes_of_the_user_cannot_read_the_memory_of_a_server() -> None:
    """The kernel shows no other process this attribute: ask for it from inside (PR_GET_DUMPABLE)."""
    code = (
        "import ctypes; from registry.server.prctl import forbid_core_dumps; forbid_core_dumps(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert asked.stdout == b"0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a server")
def test_root_can_still_watch_and_profile_a_server(server: CrisperServer) -> None:
    for pid in family(server):
        watched = psutil.Process(pid)
        assert watched.memory_full_info().uss > 0
        assert watched.open_files() is not None
