"""The production shape: what dies during an import and a pull is replaced, and both come to their end."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Node, Organization, PullToken
from tests.support.images import digest_of
from tests.support.processes import Result, run, wait_until
from tests.support.production import ProductionShape, production
from tests.support.upstream import Upstream

IMAGE = images.random_layers(6, 4 * images.MIB, "acme/production")
BYTES = sum(map(len, IMAGE.blobs.values()))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' own users can reach."""
    made = Path(mkdtemp(prefix="production-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def shape(folder: Path, upstream: Upstream) -> Iterator[ProductionShape]:
    upstream.push(IMAGE)
    with production(folder, insecure_registries=[upstream.host], response_bytes_s=1_500_000) as running:
        yield running


@pytest.mark.timeout(600)
def test_an_import_and_a_pull_survive_what_dies_meanwhile(
    shape: ProductionShape, upstream: Upstream, folder: Path
) -> None:
    group, organization = _import_while_workers_die(shape, upstream)
    _look_at_the_portal(shape, organization, group)
    node_id, secret = shape.operator.create_certified_node()
    root = folder / "node"
    enroll = ["node", "enroll", shape.url, node_id, "--ca", str(shape.ca), "--root", str(root)]
    run([str(CRISPER), *enroll], env={"CRISPER_ENROLMENT_SECRET": secret}).check()
    token = shape.operator.mint(organization, group, Node(node_id, ""))
    layout = folder / "layout"
    with ThreadPoolExecutor(1) as pulling:
        pull = pulling.submit(_pull, token, layout, root)
        wait_until(lambda: _fetched(layout) > BYTES / 5, timeout_s=100, what="a fifth is there")
        shape.servers["pull-1"].kill9()
        wait_until(lambda: _fetched(layout) > BYTES / 2, timeout_s=100, what="half is there")
        shape.ledger.primary.process.kill9()
        said = pull.result().check().output
    pulled = json.loads(said[said.index("{") :])
    assert pulled["digest"] == IMAGE.digest
    for digest in (IMAGE.digest, *IMAGE.blobs):
        blob = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
        assert digest_of(blob.read_bytes()) == digest
    assert shape.ledger.replica_is_primary()
    assert len(shape.operator.redemptions(token)) == 1


def _look_at_the_portal(shape: ProductionShape, organization: Organization, group: str) -> None:
    """Sign in through the proxy, which ends the browser's TLS."""
    visitor = shape.visitor(organization.api_key)
    assert group in visitor.text("/")
    assert visitor.cookies.keys() == {"__Host-crisper-visit", "__Host-crisper-session"}


def _import_while_workers_die(shape: ProductionShape, upstream: Upstream) -> tuple[str, Organization]:
    """Import, and kill the worker that has the job while the upstream keeps it waiting."""
    organization = shape.operator.create_organization()
    customer = shape.customer(organization)
    workers = [shape.servers["import-1"], shape.servers["import-2"]]
    os.kill(upstream.pid, signal.SIGSTOP)
    try:
        group = customer.create_group(
            upstream.reference(IMAGE), username=upstream.username, password=upstream.password
        )
        wait_until(lambda: any(_asks(each, upstream) for each in workers), timeout_s=60, what="one imports")
        next(each for each in workers if _asks(each, upstream)).kill9()
    finally:
        os.kill(upstream.pid, signal.SIGCONT)
    assert customer.wait_settled(group, timeout_s=120)["current_state"]["status"] == "stopped"
    return group, organization


def _asks(server: CrisperServer, upstream: Upstream) -> bool:
    connections = psutil.Process(server.process.pid).net_connections()
    return any(each.raddr and each.raddr.port == upstream.port for each in connections)


def _pull(token: PullToken, layout: Path, root: Path) -> Result:
    argv = ["node", "pull", token.reference, "--output", str(layout), "--root", str(root), "--json"]
    return run([str(CRISPER), *argv], env={"CRISPER_PULL_TOKEN": token.token}, timeout_s=240)


def _fetched(layout: Path) -> int:
    fetched = 0
    for path in layout.glob("blobs/sha256/*"):
        with suppress(FileNotFoundError):  # renamed meanwhile, when it was complete
            fetched += path.stat().st_size
    return fetched
