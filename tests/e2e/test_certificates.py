"""Nodes bound by certificate: every client shows the one that it has been set up with, and needs it.

Docker shows none to 127.0.0.0/8, so its daemon lives in a network of its own, and the server at that
network's other end.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from auth.nodes.ca import NodeCA
from tests.e2e.conftest import CLIENTS
from tests.support import images
from tests.support.certificates import CertificateFiles, TestCa, new_key
from tests.support.certified import Certified
from tests.support.clients import Client, Ctr, Docker, Podman, Skopeo
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.dockerd import Containerd, Dockerd
from tests.support.machine import Machine
from tests.support.network import Network
from tests.support.processes import run, wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

RETRYING = ("docker", "containerd")
IMAGE = images.random_layers(6, 700_000)
RATE = 200_000
CUTS = 5
EXPIRES_S = 10

# The connection ends within the handshake; whether an alert still gets through is a race.
HANDSHAKE = re.compile(
    r"remote error: tls: .*certificate|: EOF|connection reset|broken pipe|server closed idle connection"
)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def site(workdir: Path, network: Network) -> Iterator[Certified]:
    """A TLS server at the network's end, whose sessions are soon over when nothing happens in them."""
    folder = workdir / "certified"
    operators_ca = TestCa.create(folder / "operators", "Operator's nodes")
    servers_ca = TestCa.create(folder / "servers", "Servers")
    tls = servers_ca.issue("server", hosts=[network.address], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    env = {"CRISPER_NODE_CA": str(operators_ca.path), "CRISPER_SESSION_BASE_S": str(EXPIRES_S)}
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder / "upstream"))
        upstream.push(IMAGE)
        server = CrisperServer(
            folder / "server",
            insecure_registries=[upstream.host],
            env=env,
            tls=tls,
            address=network.address,
        )
        stack.enter_context(server)
        yield Certified(server, folder, operators_ca, upstream, IMAGE)


@pytest.fixture(scope="module")
def everybody(workdir: Path, network: Network) -> Iterator[dict[str, Client]]:
    folder = workdir / "tls"
    with (
        Containerd(folder / "containerd") as containerd,
        Dockerd(folder / "dockerd", containerd, network=network.name) as dockerd,
    ):
        every: tuple[Client, ...] = (
            Docker(dockerd, folder / "docker"),
            Ctr(containerd),
            Podman(workdir / "tlspod"),
            Skopeo(folder / "skopeo"),
        )
        yield {client.name: client for client in every}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, everybody: dict[str, Client]) -> Client:
    return everybody[request.param]


def test_a_client_pulls_with_its_machines_enrolled_certificate(
    client: Client, site: Certified, root: Path, machine: Machine
) -> None:
    node = site.enroll(root, site.url)
    machine.is_at(root, site.server.host, client)
    token = site.mint(node)
    client.pull(token.reference, token.username, token.token).check()
    assert client.digest(token.reference) in IMAGE.digests
    (redeemed,) = site.server.operator.redemptions(token)
    assert redeemed["detail"]["x5t#S256"]


@pytest.mark.parametrize("kind", ["none", "another", "revoked", "expired", "foreign"])
def test_a_client_without_its_nodes_valid_certificate_is_refused(
    client: Client, kind: str, site: Certified, root: Path, machine: Machine
) -> None:
    shown: CertificateFiles | None
    node, shown = site.enrolled()
    token = site.mint(node)
    if kind == "none":
        shown = None
    elif kind == "another":
        _, shown = site.enrolled()
    elif kind == "revoked":
        site.server.operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
    elif kind == "expired":
        key, long_ago = new_key(), datetime.now(UTC) - timedelta(hours=25)
        authority = NodeCA.load(site.server.data_dir / "node-ca")
        made = authority.issue(key.public_key(), node.node_id, long_ago)
        pem = made.public_bytes(serialization.Encoding.PEM).decode()
        shown = site.files("expired", pem, key)
    else:
        foreign = TestCa.create(Path(mkdtemp(dir=root.parent)), "Crisper node CA")
        shown = foreign.issue("foreign", uris=[f"urn:crisper:node:{node.node_id}"])
    site.prepare(root, site.server.host, shown)
    machine.is_at(root, site.server.host, client)
    result = client.pull(token.reference, token.username, token.token)
    assert not result.ok, f"{client.name} pulled what it must not have"
    words = HANDSHAKE if kind in {"expired", "foreign"} else client.refusal
    assert words.search(result.output), f"not a refusal in {client.name}'s words:\n{result.output}"
    causes = {"none": "wrong_peer", "another": "wrong_peer", "revoked": "revoked"}
    assert set(site.causes(token_id=token.token_id)) == ({causes[kind]} if kind in causes else set())


@pytest.mark.parametrize("name", RETRYING)
def test_a_slow_pull_outlives_its_bearer_five_cuts_and_its_certificate(
    name: str, everybody: dict[str, Client], site: Certified, root: Path, machine: Machine
) -> None:
    """On clients that retry at all: podman gives up at the first cut, skopeo at the third."""
    client = everybody[name]
    with SlowLink(site.server.port, 100 * RATE, site.server.address) as link:
        node = site.enroll(root, f"https://{link.host}")
        machine.is_at(root, link.host, client)
        token = site.mint(node)
        reference = token.reference.replace(site.server.host, link.host)
        first = (root / "etc/docker/certs.d" / link.host / "client.cert").read_bytes()
        link.bytes_per_s = RATE
        with ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            pulling = pool.submit(client.pull, reference, token.username, token.token)
            for number in range(CUTS):
                if number == CUTS // 2:
                    run([str(CRISPER), "node", "renew", "--force", "--root", str(root)]).check()
                wait_until(
                    lambda: link.cut(200_000) or pulling.done(), timeout_s=60, what=f"cut {number + 1}"
                )
                assert not pulling.done(), pulling.result().output
            result = pulling.result().check()
        assert result.ok
        assert time.monotonic() - began > EXPIRES_S
        assert client.digest(reference) in IMAGE.digests
        assert (root / "etc/docker/certs.d" / link.host / "client.cert").read_bytes() != first
    assert site.causes(token_id=token.token_id) == []
    renewed = [event["node_id"] for event in site.server.operator.events(type="node.renewed")]
    assert node.node_id in renewed
