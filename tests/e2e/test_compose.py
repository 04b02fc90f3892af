"""deploy/compose.yaml comes up, and no container's death loses what a client retries."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support import images
from tests.support.built_programs import docker_proxy, dockerd
from tests.support.clients import Docker
from tests.support.compose_site import ComposeSite
from tests.support.container_image import IMAGE, Engine
from tests.support.crisper import Customer, Node
from tests.support.dockerd import Containerd, Dockerd
from tests.support.images import MIB
from tests.support.machine import Machine
from tests.support.network import Network
from tests.support.processes import run
from tests.support.service_images import make_service_images
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

RETRY_S = 180
PULLED = images.random_layers(6, 4 * MIB, "acme/compose")
T = TypeVar("T")


@pytest.fixture(scope="module")
def built(workdir: Path, containerd: Containerd) -> Iterator[Path]:
    """The server's image in an archive: only a daemon in the machine's own network can build it."""
    folder, archive = workdir / "building", workdir / "crisper-registry.tar"
    with Dockerd(folder, containerd) as daemon:
        engine = Engine(daemon)
        engine.build()
        engine("tag", IMAGE, "crisper-registry")
        engine("save", "--output", str(archive), "crisper-registry")
    run(["umount", str(folder / "exec" / "netns" / "default")])  # dockerd leaves it behind
    yield archive
    archive.unlink()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def customers_registry(workdir: Path, network: Network) -> Iterator[Upstream]:
    within = ("nsenter", f"--net=/run/netns/{network.name}")
    with Upstream(workdir / "outside", address=network.inside, prefix=within) as registry:
        registry.push(PULLED)
        yield registry


@pytest.fixture
def site(
    workdir: Path, containerd: Containerd, built: Path, network: Network, customers_registry: Upstream
) -> Iterator[ComposeSite]:
    folder = workdir / "compose"
    options = (f"--userland-proxy-path={docker_proxy()}",)
    with Dockerd(
        folder / "dockerd", containerd, network=network.name, program=str(dockerd()), options=options
    ) as daemon:
        engine = Engine(daemon)
        engine("load", "--input", str(built))
        make_service_images(engine)
        site = ComposeSite(folder, engine, network, customers_registry)
        try:
            site.start()
            yield site
        finally:
            site.stop()
    run(["umount", str(folder / "dockerd" / "exec" / "netns" / "default")])


def retried(action: Callable[[], T]) -> T:
    """Repeat what fails, as a client does."""
    deadline = time.monotonic() + RETRY_S
    while True:
        try:
            return action()
        except (AssertionError, OSError, HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_what_a_client_retries_survives_the_death_of_each_container(
    site: ComposeSite, customers_registry: Upstream, docker: Docker, machine: Machine, root: Path
) -> None:
    certificates = root / "etc/docker/certs.d" / site.host
    certificates.mkdir(parents=True)
    shutil.copy(site.ca, certificates / "ca.crt")
    machine.is_at(root, site.host, docker)
    customer, node = site.create_organization("acme"), site.create_node("node-1")
    login = customers_registry.login
    first = customer.import_image(customers_registry.reference(PULLED), **login)
    assert pull(site, docker, first, node) == PULLED.digest

    imported = {}
    for number, service in enumerate(site.services()):
        image = images.random_layers(2, MIB + number, f"acme/{service}")
        customers_registry.push(image)
        with ThreadPoolExecutor(2) as clients:
            importing = clients.submit(import_image, customer, customers_registry, image, service)
            pulling = clients.submit(retried, lambda: pull(site, docker, first, node))
            site.kill(service)
            assert importing.result() == "stopped", service
            assert pulling.result() == PULLED.digest, service
        site.wait_healthy()
        imported[service] = image
    for service, image in imported.items():
        assert pull(site, docker, service, node) == image.digest
    site.compose("exec", "--no-TTY", "api", "crisper", "doctor")


def pull(site: ComposeSite, docker: Docker, group: str, node: Node) -> str:
    """Pull once with a new token; return the digest that Docker has."""
    token = site.mint("acme", group, node)
    docker.pull(token.reference, token.username, token.password(node)).check()
    return docker.digest(token.reference)


def import_image(customer: Customer, upstream: Upstream, image: images.Image, name: str) -> str:
    reference = upstream.reference(image)
    retried(lambda: customer.create_group(reference, name=name, **upstream.login))
    state = retried(lambda: customer.wait_settled(name, timeout_s=RETRY_S))["current_state"]
    return f"{state['status']} {state.get('description') or ''}".strip()
