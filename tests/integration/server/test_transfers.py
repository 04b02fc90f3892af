"""Imports of a server with two worker processes: at the same time, followed, stopped, and killed.

`CRISPER_TEST_KILLS=20 CRISPER_TEST_IMAGE_GB=2` is the full number of kills. `CRISPER_TEST_COMPRESS=true` has
the layers compressed too, which then is part of what has to be complete in time.
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
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.crisper import PROJECT, CrisperServer
from tests.support.http import request
from tests.support.many_imports import RandomUpstream, import_many, random_upstream
from tests.support.processes import wait_until
from tests.support.slow_link import SlowLink

KILLS = min(int(os.environ.get("CRISPER_TEST_KILLS", "1")), 20)
IMAGE_GB = float(os.environ.get("CRISPER_TEST_IMAGE_GB", "0.25"))
LEASE_S = 8.0  # a busy machine's disk takes its time over a heartbeat
COMPLETED_S = 30.0  # after the dead worker's lease; taken over and done
COMPRESS = os.environ.get("CRISPER_TEST_COMPRESS", "false")
IMAGES, IMPORTS = 4, 24

pytestmark = pytest.mark.timeout(300 + KILLS * (60 + 90 * IMAGE_GB))


@dataclass(frozen=True)
class Site:
    server: CrisperServer
    large: RandomUpstream
    small: RandomUpstream
    link: SlowLink

    def row(self, query: str, *arguments: str) -> list[tuple[str, ...]]:
        """Ask the catalog: a connection may wait for the process that was killed to be replaced."""
        with closing(sqlite3.connect(self.server.data_dir / "catalog.db")) as catalog:
            return catalog.execute(query, arguments).fetchall()

    def status(self, group: str) -> str:
        ((status,),) = self.row("SELECT status FROM groups WHERE name = ?", group)
        return status

    def holders(self, group: str) -> list[str]:
        """Return the worker that runs the group's import, if any does."""
        return self._job(group, "worker_id", "AND state = 'running'")

    def last_holder(self, group: str) -> str:
        (worker_id,) = self._job(group, "worker_id")
        return worker_id

    def lease_until(self, group: str) -> float | None:
        """Return when the lease on the group's import ends, in seconds of the epoch; None after its end."""
        (until,) = self._job(group, "lease_until")
        return None if until is None else _seconds(until)

    def finished_at(self, group: str) -> float:
        (at,) = self._job(group, "finished_at")
        return _seconds(at)

    def _job(self, group: str, column: str, also: str = "") -> list[str]:
        query = f"SELECT jobs.{column} FROM jobs JOIN groups ON groups.id = group_id WHERE name = ? {also}"  # noqa: S608
        return [value for (value,) in self.row(query, group)]

    def incoming(self) -> list[Path]:
        return list((self.server.data_dir / "blobs" / "incoming").iterdir())


def _seconds(stored: str) -> float:
    return datetime.fromisoformat(stored).replace(tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("transfers")
    env = {"CRISPER_WORKERS": "2", "CRISPER_LEASE_S": str(LEASE_S), "CRISPER_GC_INTERVAL_S": "2"}
    env["CRISPER_COMPRESS"] = COMPRESS
    with (
        random_upstream(folder, size_gb=IMAGE_GB, layers=2) as large,
        random_upstream(folder, size_gb=0.006, layers=3, images=IMAGES) as small,
        SlowLink(large.port, bytes_per_s=4_000_000) as link,
    ):
        hosts = [large.host, small.host, link.host]
        with CrisperServer(folder / "crisper", insecure_registries=hosts, env=env) as server:
            yield Site(server, large, small, link)


def test_many_imports_of_few_images_fetch_every_layer_once_and_all_end(site: Site) -> None:
    done = import_many(site.server, site.small, images=IMAGES, imports=IMPORTS, timeout_s=120)
    assert done.statuses == {"stopped": IMPORTS}
    assert done.fetched_again == {}
    assert set(site.small.sent()) == set(site.small.layers)


def test_an_import_shows_progress_and_stops_with_its_group(site: Site) -> None:
    organization = site.server.operator.create_organization()
    customer = site.server.customer(organization)
    group = customer.create_group(f"{site.link.host}/big/image:latest")
    url = f"/api/public/organizations/{organization.name}/projects/{PROJECT}/containers/{group}/progress"
    headers = {"Salad-Api-Key": organization.api_key}
    seen: list[dict[str, Any]] = []
    with closing(HTTPConnection("127.0.0.1", site.server.port, timeout=60)) as connection:
        connection.request("GET", url, headers=headers | {"Accept": "text/event-stream"})
        stream = connection.getresponse()
        assert stream.headers["Content-Type"] == "text/event-stream"
        while len(seen) < 2:
            line = stream.readline().decode()
            assert line
            if line.startswith("data: ") and (told := json.loads(line.removeprefix("data: ")))["progress"]:
                seen += [told] if told["progress"]["bytes_per_s"] else []
        once = request("GET", f"{site.server.url}{url}", headers=headers).expect(200).json()
        customer.delete(group)
        assert b"settled" not in stream.read()  # it ends, and nothing was settled
    progress = seen[-1]["progress"]
    assert (seen[-1]["status"], progress["stage"], progress["layers_total"]) == ("pending", "pulling", 2)
    assert 0 < seen[0]["progress"]["bytes_done"] < progress["bytes_done"] < progress["bytes_total"]
    assert progress["eta_s"] > 0
    assert "MB/s" in seen[-1]["description"]
    assert once["progress"]["bytes_done"] >= progress["bytes_done"]
    wait_until(lambda: not site.link.busy, timeout_s=20, what="no connection to the upstream is left")
    wait_until(lambda: not site.incoming(), timeout_s=60, what="nothing of it is left")
    request("GET", f"{site.server.url}{url}", headers=headers).expect(404)


@dataclass(frozen=True)
class Rescue:
    """What became of an import whose worker was killed.

    Attributes:
        taken_over_s: From the end of the dead worker's lease until another one had the job.
        completed_s: From the end of that lease until the image was there.
        again: What was fetched a second time, as a share of the image.
    """

    taken_over_s: float
    completed_s: float
    again: float

    def __str__(self) -> str:
        times = f"{self.taken_over_s:.1f} s until taken over, {self.completed_s:.1f} s until complete"
        return f"after the lease {times}; {100 * self.again:.1f} % fetched again"


def begin(site: Site) -> tuple[str, int]:
    """Start an import for a new organization; return its group and what the upstream had sent before."""
    before = sum(site.large.sent().values())
    customer = site.server.customer(site.server.operator.create_organization())
    return customer.create_group(site.large.reference), before


def complete(site: Site, group: str, before: int) -> float:
    """Wait until the import has succeeded; return how much more than the image was sent for it."""
    deadline_s = 120 + 60 * IMAGE_GB
    wait_until(lambda: site.status(group) != "pending", timeout_s=deadline_s, what="the import's end")
    assert site.status(group) == "stopped"
    return (sum(site.large.sent().values()) - before) / site.large.size_bytes - 1


def run_undisturbed(site: Site) -> tuple[float, float]:
    """Import; return the seconds that it took and what was sent more than once."""
    began = time.monotonic()
    again = complete(site, *begin(site))
    return time.monotonic() - began, again


def run_and_kill(site: Site, after_s: float) -> Rescue | None:
    """Import, and kill the worker that does it; None when it had ended by then."""
    group, before = begin(site)
    wait_until(lambda: bool(site.holders(group)), timeout_s=30, what="the import is under way", interval_s=0)
    time.sleep(after_s)  # the moment is what is random
    dead = site.holders(group)
    for worker_id in dead:
        os.kill(process_of(worker_id), signal.SIGKILL)
    lease_until = site.lease_until(group)
    if not dead or lease_until is None:
        complete(site, group, before)
        return None
    wait_until(lambda: site.holders(group) != dead, timeout_s=120, what="another worker has the job")
    taken_over_s = time.time() - lease_until
    again = complete(site, group, before)
    assert site.last_holder(group) not in dead
    return Rescue(taken_over_s, site.finished_at(group) - lease_until, again)


def process_of(worker_id: str) -> int:
    return int(worker_id.rsplit("-", 2)[1])


def test_a_killed_worker_costs_little_of_the_transfer_and_no_import(site: Site) -> None:
    undisturbed_s, again = run_undisturbed(site)
    assert again < 0.02  # on a busy machine, ranges that start slowly are replaced by one stream
    # What was on its way is at most 40 MB, whatever the size.
    allowed = 0.1 if site.large.size_bytes > 1e9 else 0.1 + 40e6 / site.large.size_bytes
    rescues: list[Rescue] = []
    while len(rescues) < KILLS:
        rescue = run_and_kill(site, random.uniform(0, 0.8 * undisturbed_s))
        if rescue is None:
            continue
        rescues.append(rescue)
        sys.stdout.write(f"{rescue}\n")
        assert rescue.again <= allowed, rescues
        assert rescue.completed_s <= COMPLETED_S, rescues
    wait_until(lambda: not site.incoming(), timeout_s=200, what="nothing unfinished is left")
