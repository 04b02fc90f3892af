"""One upstream, one Crisper and one daemon of each engine for the whole run; logs shown on failure."""

import os
import time
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Protocol

import pytest

from tests.support import images
from tests.support.clients import Client, Ctr, Docker, Podman, Skopeo
from tests.support.crisper import POSTGRES, CrisperServer, Customer, Node, Operator, Organization, PullToken
from tests.support.dockerd import Containerd, Dockerd
from tests.support.encrypted_site import EncryptedSite, encrypted_site
from tests.support.fleet import Fleet
from tests.support.machine import Machine
from tests.support.postgres import postgres
from tests.support.processes import tail
from tests.support.upstream import Upstream

IMAGES = (images.runnable(), images.random_layers(), images.multi_platform(), images.docker_schema2())
CLIENTS = ("docker", "containerd", "podman", "skopeo")

WORKDIR = pytest.StashKey[Path]()
STARTED = pytest.StashKey[float]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[STARTED] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of every log that was written during a failed test into its report."""
    report = yield
    workdir = item.config.stash.get(WORKDIR, None)
    if report.failed and workdir is not None:
        for log in sorted(path for path in workdir.rglob("*.log") if path.is_file()):
            if log.stat().st_mtime >= item.stash[STARTED]:
                report.sections.append((f"log: {log}", tail(log)))
    return report


@pytest.fixture(scope="session", autouse=True)
def _database() -> Iterator[None]:
    """Have every server keep its catalog on PostgreSQL when `CRISPER_TEST_DATABASE` says so."""
    if os.environ.get("CRISPER_TEST_DATABASE") != "postgresql":
        yield
        return
    # A socket's path may not be long, and the server's own user must reach it.
    with TemporaryDirectory(prefix="crisper-pg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder)) as url, pytest.MonkeyPatch.context() as patch:
            patch.setenv(POSTGRES, url)
            yield


@pytest.fixture(scope="session")
def workdir(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Folder of the whole run. Its path is short: podman takes paths of 50 characters at most."""
    with TemporaryDirectory(prefix="e2e-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = pytestconfig.stash[WORKDIR] = Path(name)
        yield folder


@pytest.fixture
def own_folder(workdir: Path) -> Path:
    """A folder of the test's own, whose logs are shown when it fails."""
    return Path(mkdtemp(dir=workdir))


@pytest.fixture
def root(own_folder: Path) -> Path:
    """The root of a machine's file system."""
    return own_folder / "machine"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Links in the folder that dockerd reads; gone when the test is over."""
    links: list[Path] = []
    yield Machine(links)
    for link in links:
        link.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def upstream(workdir: Path) -> Iterator[Upstream]:
    """The customer's registry, behind a password, holding `IMAGES`."""
    with Upstream(workdir / "upstream") as registry:
        for image in IMAGES:
            registry.push(image)
        yield registry


@pytest.fixture(scope="session")
def containerd(workdir: Path) -> Iterator[Containerd]:
    with Containerd(workdir / "containerd") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def docker(workdir: Path, containerd: Containerd) -> Iterator[Docker]:
    with Dockerd(workdir / "dockerd", containerd) as daemon:
        yield Docker(daemon, workdir / "docker")


@pytest.fixture(scope="session")
def ctr(containerd: Containerd) -> Ctr:
    return Ctr(containerd)


@pytest.fixture(scope="session")
def skopeo(workdir: Path) -> Skopeo:
    return Skopeo(workdir / "skopeo")


@pytest.fixture(scope="session")
def clients(workdir: Path, docker: Docker, ctr: Ctr, skopeo: Skopeo) -> dict[str, Client]:
    every: tuple[Client, ...] = (docker, ctr, Podman(workdir / "podman"), skopeo)
    return {client.name: client for client in every}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    return clients[request.param]


@pytest.fixture(scope="session")
def crisper(workdir: Path, upstream: Upstream) -> Iterator[CrisperServer]:
    with CrisperServer(workdir / "crisper", insecure_registries=[upstream.host]) as server:
        yield server


@pytest.fixture(scope="session")
def operator(crisper: CrisperServer) -> Operator:
    return crisper.operator


@pytest.fixture(scope="session")
def organization(operator: Operator) -> Organization:
    return operator.create_organization()


@pytest.fixture(scope="session")
def customer(crisper: CrisperServer, organization: Organization) -> Customer:
    return crisper.customer(organization)


@pytest.fixture(scope="session")
def node(operator: Operator) -> Node:
    return operator.create_node()


@pytest.fixture(scope="session")
def other_node(operator: Operator) -> Node:
    return operator.create_node()


@pytest.fixture(scope="session")
def fleet(crisper: CrisperServer, upstream: Upstream, clients: dict[str, Client], workdir: Path) -> Fleet:
    return Fleet.create(crisper, upstream, clients, Path(mkdtemp(dir=workdir)))


class GroupOf(Protocol):
    """Return the group that holds an image of the upstream, imported at the first call for it."""

    def __call__(self, image: images.Image) -> str: ...


class Mint(Protocol):
    """Mint a token for `node` and the group of an image."""

    def __call__(self, image: images.Image, *, ttl_s: int | None = None) -> PullToken: ...


@pytest.fixture(scope="session")
def group_of(customer: Customer, upstream: Upstream) -> GroupOf:
    @cache
    def imported(name: str) -> str:
        reference = f"{upstream.host}/{name}:latest"
        return customer.import_image(reference, username=upstream.username, password=upstream.password)

    return lambda image: imported(image.name)


@pytest.fixture(scope="session")
def mint(operator: Operator, organization: Organization, group_of: GroupOf, node: Node) -> Mint:
    return lambda image, *, ttl_s=None: operator.mint(organization, group_of(image), node, ttl_s=ttl_s)


@pytest.fixture(scope="session")
def encrypted(workdir: Path) -> Iterator[EncryptedSite]:
    """A server over TLS, and machines with containerd that are enrolled there."""
    with encrypted_site(workdir / "encrypted") as running:
        yield running
