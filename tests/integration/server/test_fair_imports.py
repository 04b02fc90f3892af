"""A tenant's import beside those of tenants whose upstreams drip, in one process with two jobs."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crisper import CrisperServer
from tests.support.many_imports import RandomUpstream, random_upstream
from tests.support.processes import wait_until
from tests.support.slow_link import SlowLink

DRIP_BYTES_PER_S = 20_000
DRIPPING_ORGANIZATIONS = 2
GROUPS = 4  # of each of these: together more than there are jobs
LATER_S = 2.0


@dataclass(frozen=True)
class Site:
    server: CrisperServer
    large: RandomUpstream
    small: RandomUpstream
    links: list[SlowLink]

    def import_small(self, number: int) -> float:
        """Import one of the small images for a new organization; return the seconds that it took."""
        customer = self.server.customer(self.server.operator.create_organization())
        began = time.monotonic()
        customer.import_image(self.small.tagged(number))
        return time.monotonic() - began

    def running(self) -> int:
        with closing(sqlite3.connect(self.server.data_dir / "catalog.db")) as catalog:
            ((count,),) = catalog.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchall()
            return int(count)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        large = stack.enter_context(random_upstream(tmp_path, size_gb=0.05, layers=2))
        small = stack.enter_context(random_upstream(tmp_path, size_gb=0.0002, layers=2, images=3))
        links = [
            stack.enter_context(SlowLink(large.port, bytes_per_s=DRIP_BYTES_PER_S))
            for _ in range(DRIPPING_ORGANIZATIONS * GROUPS)
        ]
        hosts = [small.host, *(link.host for link in links)]
        server = CrisperServer(tmp_path / "crisper", insecure_registries=hosts)
        yield Site(stack.enter_context(server), large, small, links)


def test_slow_upstreams_of_two_organizations_do_not_delay_a_third(site: Site) -> None:
    alone_s = site.import_small(0)
    organizations = [site.server.operator.create_organization() for _ in range(DRIPPING_ORGANIZATIONS)]
    path = site.large.reference.partition("/")[2]
    for number, link in enumerate(site.links):
        customer = site.server.customer(organizations[number % DRIPPING_ORGANIZATIONS])
        customer.create_group(f"{link.host}/{path}")
    wait_until(lambda: site.running() >= 2, timeout_s=20, what="both jobs are taken", interval_s=0.05)
    at_once_s = site.import_small(1)
    wait_until(lambda: site.running() == len(site.links), timeout_s=20, what="every slow import runs")
    later_s = site.import_small(2)
    assert max(at_once_s, later_s) <= alone_s + LATER_S, (alone_s, at_once_s, later_s)
