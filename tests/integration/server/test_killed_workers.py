"""Workers are killed while they import: another one takes over, and little is fetched again.

`CRISPER_TEST_KILLS=20 CRISPER_TEST_IMAGE_GB=2` is the full number.
"""

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crisper import CrisperServer
from tests.support.http import request
from tests.support.processes import Process, wait_until

KILLS = min(int(os.environ.get("CRISPER_TEST_KILLS", "2")), 20)
IMAGE_GB = float(os.environ.get("CRISPER_TEST_IMAGE_GB", "0.25"))
LEASE_S = 4.0
TAKEN_OVER_S = 30.0
LAYERS = 2

pytestmark = pytest.mark.timeout(300 + KILLS * (60 + 90 * IMAGE_GB))


@dataclass(frozen=True)
class Site:
    server: CrisperServer
    reference: str
    port: int
    size_bytes: int

    def sent_bytes(self) -> int:
        counted = request("GET", f"http://127.0.0.1:{self.port}/sent").expect(200).json()
        return sum(counted.values())

    def status(self, group: str) -> str:
        """Ask the catalog: a connection may wait for the process that was killed to be replaced."""
        with closing(sqlite3.connect(self.server.data_dir / "catalog.db")) as catalog:
            (status,) = catalog.execute("SELECT status FROM groups WHERE name = ?", [group]).fetchone()
        return str(status)

    def importing(self) -> list[int]:
        """Return the process that runs an import, if any does."""
        with closing(sqlite3.connect(self.server.data_dir / "catalog.db")) as catalog:
            rows = catalog.execute("SELECT worker_id FROM jobs WHERE state = 'running'").fetchall()
        return [int(worker_id.rsplit("-", 2)[1]) for (worker_id,) in rows]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kills")
    log = folder / "upstream.log"
    argv = [sys.executable, "-m", "bench.random_upstream", f"--size-gb={IMAGE_GB}", f"--layers={LAYERS}"]
    with Process(argv, log, ready=lambda: "digest" in log.read_text(), timeout_s=60 + 30 * IMAGE_GB):
        image = json.loads(log.read_text().splitlines()[0])
        env = {"CRISPER_WORKERS": "2", "CRISPER_LEASE_S": str(LEASE_S), "CRISPER_GC_INTERVAL_S": "2"}
        insecure = [f"127.0.0.1:{image['port']}"]
        with CrisperServer(folder / "crisper", insecure_registries=insecure, env=env) as server:
            yield Site(server, image["reference"], image["port"], image["size_bytes"])


def run(site: Site, kill_after_s: float | None) -> tuple[float, int]:
    """Import for a new organization; return how long it took from the kill, or at all, and what was sent."""
    before = site.sent_bytes()
    customer = site.server.customer(site.server.operator.create_organization())
    group = customer.create_group(site.reference)
    began = time.monotonic()
    if kill_after_s is not None:
        wait_until(lambda: bool(site.importing()), timeout_s=30, what="the import is under way", interval_s=0)
        time.sleep(kill_after_s)  # the moment is what is random
        began = time.monotonic()
        for pid in site.importing():
            os.kill(pid, signal.SIGKILL)
    deadline_s = 120 + 60 * IMAGE_GB
    wait_until(lambda: site.status(group) != "pending", timeout_s=deadline_s, what="the import's end")
    took_s = time.monotonic() - began
    assert site.status(group) == "stopped"
    return took_s, site.sent_bytes() - before


def test_a_killed_worker_costs_little_of_the_transfer_and_no_import(site: Site) -> None:
    undisturbed_s, sent_bytes = run(site, None)
    assert sent_bytes == site.size_bytes
    rounds = []
    for _ in range(KILLS):
        took_s, sent_bytes = run(site, random.uniform(0, 0.8 * undisturbed_s))
        again = sent_bytes / site.size_bytes - 1
        rounds.append((round(took_s, 1), round(100 * again, 1)))
        allowance = 0.1 + 40e6 / site.size_bytes if site.size_bytes < 1e9 else 0.1
        assert again <= allowance, rounds
        assert took_s <= LEASE_S + TAKEN_OVER_S, rounds
    sys.stdout.write(f"s from kill to end, % fetched again: {rounds}; undisturbed {undisturbed_s:.1f} s\n")
    incoming = Path(site.server.data_dir / "blobs" / "incoming")
    wait_until(lambda: not list(incoming.iterdir()), timeout_s=200, what="nothing unfinished is left")
