"""A restore to one point in time, and the loss of each dependency, as docs/backup.md describes them."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Customer, Operator
from tests.support.images import MIB, Image
from tests.support.object_stores import BUCKET, S3_ENVIRONMENT, S3Server
from tests.support.postgres_server import PostgresServer, database_url
from tests.support.processes import run, wait_until
from tests.support.pulling import Puller, PullFailedError
from tests.support.replicated_redis import Server
from tests.support.upstream import Upstream

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(900 + 2 * int(os.environ.get("CRISPER_TEST_OUTAGE_S", "20"))),
]

OUTAGE_S = int(os.environ.get("CRISPER_TEST_OUTAGE_S", "20"))
SETTLED_S = 120
SLOW = images.random_layers(4, 2 * MIB, "acme/slow")


class Site:
    """A server with everything outside of it: PostgreSQL, Redis, an S3 server and the customers' registry.

    Attributes:
        database: Link to the folder of the PostgreSQL server in use.
    """

    def __init__(self, folder: Path, upstream: Upstream, stoppable: Upstream) -> None:
        self.folder, self.upstream, self.stoppable = folder, upstream, stoppable
        self.postgres = PostgresServer.create(folder / "pg")
        self.database = folder / "db"
        self.database.symlink_to(self.postgres.folder)
        for name in ("redis", "s3"):
            (folder / name).mkdir()
        self.redis = Server(folder / "redis")
        self.objects = S3Server(folder / "s3")
        self.objects.start()
        self.server = self.new_server("server", self.database, self.objects)
        self.server.start()
        self.operator = self.server.operator
        self.organization = self.operator.create_organization()
        self.node = self.operator.create_node()

    @property
    def customer(self) -> Customer:
        return self.server.customer(self.organization)

    def new_server(self, name: str, database: Path, objects: S3Server) -> CrisperServer:
        environment = {
            "CRISPER_DATABASE_URL": database_url(database),
            "CRISPER_REDIS_URL": f"redis://127.0.0.1:{self.redis.port}",
            "CRISPER_STORAGE_URL": objects.url("blobs"),
            "CRISPER_GC_INTERVAL_S": "0",  # as docs/backup.md says for the time of a backup
            "CRISPER_LEASE_S": "5",
            **S3_ENVIRONMENT,
        }
        return CrisperServer(
            self.folder / name, insecure_registries=[self.upstream.host, self.stoppable.host], env=environment
        )

    def create_group(self, image: Image) -> str:
        self.upstream.push(image)
        return self.customer.create_group(self.upstream.reference(image), **self.upstream.login)

    def import_image(self, image: Image) -> str:
        group = self.create_group(image)
        state = self.customer.wait_settled(group, timeout_s=SETTLED_S)["current_state"]
        assert state["status"] == "stopped", state
        return group

    def pull(self, group: str, server: CrisperServer | None = None) -> int:
        """Pull a group's image with a new token, and verify its bytes; return how many there are."""
        used = server or self.server
        operator = Operator(used.url, self.server.operator_key)
        with closing(Puller(used.url)) as puller:
            return puller.pull(operator.mint(self.organization, group, self.node), self.node)

    def doctor(self, server: CrisperServer) -> None:
        """Assert that `crisper doctor` finds no problem."""
        run([str(CRISPER), "doctor", "--data-dir", str(server.data_dir)], env=server.environment).check()

    def close(self) -> None:
        if self.server.process.running:
            self.server.stop()
        self.objects.stop()
        self.redis.process.kill9()
        self.postgres.stop()


@pytest.fixture
def stoppable(workdir: Path) -> Iterator[Upstream]:
    """A registry that nothing is connected to, so that a worker's connection shows that it imports."""
    with Upstream(Path(tempfile.mkdtemp(dir=workdir))) as registry:
        registry.push(SLOW)
        yield registry


@pytest.fixture
def site(upstream: Upstream, stoppable: Upstream) -> Iterator[Site]:
    # A socket's path may not be long, and PostgreSQL's own user must reach it.
    with tempfile.TemporaryDirectory(prefix="site-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        site = Site(Path(name), upstream, stoppable)
        with closing(site):
            yield site


class Load:
    """Imports and pulls, one after the other, until the end of the `with` block.

    Attributes:
        groups: The groups that are imported, in order, with their images.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ends = threading.Event()
        self.groups: list[tuple[str, Image]] = []

    def wait_for(self, more: int) -> None:
        wanted = len(self.groups) + more
        wait_until(
            lambda: len(self.groups) >= wanted or any(each.done() for each in self._running),
            timeout_s=SETTLED_S,
            what=f"{more} more imports are done",
        )
        assert len(self.groups) >= wanted, [each.exception() for each in self._running if each.done()]

    def _import(self) -> None:
        while not self._ends.is_set():
            image = images.random_layers(2, MIB // 2 + len(self.groups), f"acme/load-{len(self.groups)}")
            self.groups.append((self._site.import_image(image), image))

    def _pull(self) -> None:
        while not self._ends.is_set():
            for group, image in list(self.groups):
                assert self._site.pull(group) == sum(map(len, image.blobs.values()))
            time.sleep(0.1)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(2)
        self._running = [self._pool.submit(self._import), self._pool.submit(self._pull)]
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._pool.shutdown()
        for each in self._running:
            each.result()


def test_catalog_keys_and_bucket_are_restored_to_one_point_in_time(site: Site) -> None:
    with Load(site) as load:
        load.wait_for(2)
        backup = site.postgres.folder / "base"
        site.postgres.base_backup(backup)
        load.wait_for(2)
        keys = site.folder / "keys"
        shutil.copytree(
            site.server.data_dir, keys, ignore=shutil.ignore_patterns("*.sock", "*.lock", "redis*")
        )
        kept = list(load.groups)
        moment = site.postgres.now()
        load.wait_for(1)
        copy = site.folder / "s3-copy"  # after the moment, so that it has every object of the catalog
        shutil.copytree(site.objects.folder, copy)
        load.wait_for(1)
    site.customer.delete(kept[0][0])
    later = [group for group, _ in load.groups[len(kept) + 1 :]]
    time.sleep(3)  # longer than archive_timeout: the WAL after the moment is archived
    lost_server = site.server
    assert lost_server.stop() == 0
    site.postgres.kill9()
    site.redis.process.kill9()
    site.objects.stop()

    with ExitStack() as stack:
        restored = stack.enter_context(
            PostgresServer.restored(site.folder / "pg2", backup, site.postgres.archive, moment)
        )
        (site.folder / "redis2").mkdir()
        site.redis = Server(site.folder / "redis2")
        shutil.rmtree(site.objects.bucket)
        shutil.copytree(copy / "buckets" / BUCKET, site.objects.bucket)
        site.objects.start()
        server = site.new_server("restored", restored.folder, site.objects)
        shutil.copytree(keys, server.data_dir)
        stack.enter_context(server)
        site.doctor(server)
        for group, image in kept:
            assert site.pull(group, server) == sum(map(len, image.blobs.values()))
        customer = server.customer(site.organization)
        for group in later:
            assert customer.call("GET", group).status == 404


def test_the_loss_of_the_ledger_refuses_all_tokens_and_loses_nothing_else(site: Site) -> None:
    done = site.import_image(images.random_layers(2, MIB, "acme/done"))
    waiting = site.operator.mint(site.organization, done, site.node)
    with closing(Puller(site.server.url)) as puller:
        begun = site.operator.mint(site.organization, done, site.node)
        bearer = puller.redeem(begun, site.node)
        os.kill(site.stoppable.pid, signal.SIGSTOP)
        try:
            slow = _import_that_waits(site)
            site.redis.process.kill9()
            shutil.rmtree(site.folder / "redis")
            (site.folder / "redis").mkdir()
            site.redis.start()
        finally:
            os.kill(site.stoppable.pid, signal.SIGCONT)
        wait_until(site.server.ready, timeout_s=SETTLED_S, what="the server has the new ledger")
        for token in (waiting, begun):
            with pytest.raises(PullFailedError, match=r": 401 "):
                puller.pull(token, site.node)
        with pytest.raises(PullFailedError, match=r": 401 "):
            puller.get(f"/v2/{puller.repository(begun)}/manifests/{begun.digest}", bearer)
    state = site.customer.wait_settled(slow, timeout_s=SETTLED_S)["current_state"]
    assert state["status"] == "stopped", state
    assert site.pull(done) > 0
    assert site.pull(slow) > 0
    site.doctor(site.server)


def _import_that_waits(site: Site) -> str:
    """Start an import of a registry that is stopped, and wait until the worker asks it."""
    group = site.customer.create_group(site.stoppable.reference(SLOW), **site.stoppable.login)
    server = psutil.Process(site.server.process.pid)

    def asks() -> bool:
        connections = [
            each
            for process in (server, *server.children(recursive=True))
            for each in process.net_connections()
        ]
        return any(each.raddr and each.raddr.port == site.stoppable.port for each in connections)

    wait_until(asks, timeout_s=SETTLED_S, what="the worker has the credential and asks the registry")
    return group


def test_a_promoted_replica_has_everything_that_was_acknowledged(site: Site) -> None:
    with ExitStack() as stack:
        replica = stack.enter_context(site.postgres.replica(site.folder / "pg2"))
        before = site.import_image(images.random_layers(2, MIB, "acme/before"))
        wait_until(replica.follows, timeout_s=SETTLED_S, what="the replica follows")
        site.postgres.kill9()
        wait_until(lambda: not site.server.ready(), timeout_s=SETTLED_S, what="the loss is noticed")
        replica.promote()
        site.database.unlink()
        site.database.symlink_to(replica.folder)
        wait_until(site.server.ready, timeout_s=SETTLED_S, what="the server uses the new primary")
        assert site.pull(before) > 0
        after = site.import_image(images.random_layers(2, MIB, "acme/after"))
        assert site.pull(after) > 0
        site.doctor(site.server)
        assert site.server.stop() == 0


def test_imports_wait_for_the_object_store_and_pulls_are_refused_meanwhile(site: Site) -> None:
    """The outage lasts `CRISPER_TEST_OUTAGE_S`, 20 s by default."""
    before = site.import_image(images.random_layers(2, MIB, "acme/stored"))
    site.objects.stop()
    began = time.monotonic()
    during = site.create_group(images.random_layers(2, MIB + 1, "acme/during"))
    refused = 0
    while time.monotonic() < began + OUTAGE_S:
        with pytest.raises(
            (PullFailedError, AssertionError), match=r"50[03]|IncompleteRead|RemoteDisconnected"
        ):
            site.pull(before)
        refused += 1
        assert site.customer.status(during) == "pending"
        time.sleep(1)
    site.objects.start()
    assert refused > 0
    state = site.customer.wait_settled(during, timeout_s=SETTLED_S)["current_state"]
    assert state["status"] == "stopped", state
    assert site.pull(during) > 0
    assert site.pull(before) > 0
    site.doctor(site.server)
