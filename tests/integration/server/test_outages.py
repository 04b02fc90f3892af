"""Imports from a registry that goes down in the middle of a layer, and comes back."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crisper import CrisperServer, Customer
from tests.support.many_imports import RandomUpstream, random_upstream
from tests.support.processes import wait_until
from tests.support.slow_link import SlowLink

SLOW, FAST = 2_000_000, 500_000_000
SAYS = "pulling: the registry does not answer, trying again"
# Share of an image that may be fetched twice: what was in sockets and not yet saved when the link went down.
AGAIN = 0.1


@dataclass(frozen=True)
class Site:
    server: CrisperServer
    upstream: RandomUpstream
    link: SlowLink
    customer: Customer

    def begin(self) -> str:
        """Start an import, and take its registry down in the middle of the layers."""
        group = self.customer.create_group(f"{self.link.host}/{self.upstream.reference.partition('/')[2]}")
        wait_until(lambda: self.link.delivered_bytes > SLOW, timeout_s=30, what="layers are on their way")
        self.link.go_down()
        self.link.bytes_per_s = FAST
        return group

    def description(self, group: str) -> str:
        return str(self.customer.group(group)["current_state"]["description"])

    def wait_for(self, group: str, said: str, timeout_s: float = 60) -> None:
        wait_until(
            lambda: self.description(group).startswith(said), timeout_s=timeout_s, what=f"it says: {said}"
        )

    def complete(self, group: str) -> None:
        """Let the registry come up, and check that the image arrives, and only a little of it twice."""
        self.link.come_up()
        state = self.customer.wait_settled(group, timeout_s=120)["current_state"]
        assert state["status"] == "stopped", state
        again = sum(self.upstream.sent().values()) / self.upstream.size_bytes - 1
        assert again < AGAIN


@contextmanager
def running(folder: Path, **env: str) -> Iterator[Site]:
    with (
        random_upstream(folder, size_gb=0.2, layers=2) as upstream,
        SlowLink(upstream.port, bytes_per_s=SLOW) as link,
        CrisperServer(
            folder / "crisper", insecure_registries=[link.host], env={"CRISPER_COMPRESS": "false", **env}
        ) as server,
    ):
        yield Site(server, upstream, link, server.customer(server.operator.create_organization()))


def test_an_import_completes_after_its_registry_was_down_in_the_middle(tmp_path: Path) -> None:
    with running(tmp_path, CRISPER_IMPORT_OUTAGE_S="30") as site:
        group = site.begin()
        site.wait_for(group, SAYS)
        assert site.link.host in site.description(group)
        time.sleep(2)  # the outage
        site.complete(group)


@pytest.mark.full
def test_an_import_completes_after_its_registry_was_down_for_90_s(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        group = site.begin()
        time.sleep(90)  # the outage
        site.wait_for(group, SAYS)
        site.complete(group)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_delayed_retry_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    with running(tmp_path, CRISPER_IMPORT_OUTAGE_S="1", CRISPER_IMPORT_RETRY_DELAY_S="60") as site:
        group = site.begin()
        site.wait_for(group, f"{SAYS} in 1 min")
        site.server.kill9()
        site.server.start()
        with closing(sqlite3.connect(site.server.data_dir / "catalog.db")) as catalog:
            ((state, credential),) = catalog.execute("SELECT state, credential_key FROM jobs").fetchall()
        assert (state, credential) == ("queued", None)
        site.complete(group)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_an_import_whose_registry_stays_down_fails_after_its_delayed_retry(tmp_path: Path) -> None:
    with running(tmp_path, CRISPER_IMPORT_OUTAGE_S="1", CRISPER_IMPORT_RETRY_DELAY_S="1") as site:
        group = site.begin()
        state = site.customer.wait_settled(group, timeout_s=120)["current_state"]
        assert state["status"] == "failed"
        assert state["description"].startswith(f"failed to pull: {site.link.host} cannot be reached")
