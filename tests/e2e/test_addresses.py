"""A registry on the default port and one at an IPv6 literal: clients pull what a mint answers, as it is."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import images
from tests.support.built_programs import go_program
from tests.support.certificates import TestCa
from tests.support.certified import Certified
from tests.support.clients import Client, Ctr, Docker, Podman, Skopeo
from tests.support.crisper import CRISPER, HTTPS_PORT, CrisperServer, PullToken
from tests.support.dockerd import Containerd, Dockerd
from tests.support.machine import Machine
from tests.support.network import Network
from tests.support.portal import PortalVisitor
from tests.support.processes import Result, free_port, run
from tests.support.upstream import Upstream

IMAGE = images.random_layers(3, 300_000)
CLIENTS = ("docker", "containerd", "podman", "skopeo")
HELPED = ("docker", "podman", "skopeo")
PLACES = ("port 443", "IPv6")
NO_IPV6 = ("docker", "podman", "skopeo")
"""Debian's versions read no IPv6 address in a reference, whatever the registry."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module", params=PLACES)
def site(request: pytest.FixtureRequest, workdir: Path, network: Network) -> Iterator[Certified]:
    """A server over TLS; its public URL is written as operators may write it."""
    folder = workdir / request.param.replace(" ", "-")
    address, port = (network.address, HTTPS_PORT) if request.param == "port 443" else ("::1", free_port())
    literal = f"[0:0:0:0:0:0:0:1]:{port}" if ":" in address else f"{address}:{port}"
    tls = TestCa.create(folder / "servers", "Servers").issue(
        "server", hosts=[address], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)
    )
    operators_ca = TestCa.create(folder / "operators", "Operator's nodes")
    env = {"CRISPER_NODE_CA": str(operators_ca.path), "CRISPER_PUBLIC_URL": f"https://{literal}/"}
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder / "upstream"))
        upstream.push(IMAGE)
        server = CrisperServer(
            folder / "server",
            insecure_registries=[upstream.host],
            env=env,
            tls=tls,
            address=address,
            port=port,
        )
        stack.enter_context(server)
        yield Certified(server, folder, operators_ca, upstream, IMAGE)


@pytest.fixture(scope="module")
def everybody(workdir: Path) -> Iterator[dict[str, Client]]:
    folder = workdir / "addresses"
    with (
        Containerd(folder / "containerd") as containerd,
        Dockerd(folder / "dockerd", containerd) as dockerd,
    ):
        every: tuple[Client, ...] = (
            Docker(dockerd, folder / "docker"),
            Ctr(containerd),
            Podman(workdir / "addrpod"),
            Skopeo(folder / "skopeo"),
        )
        yield {client.name: client for client in every}


@pytest.fixture
def place(site: Certified, root: Path, machine: Machine) -> "Place":
    return Place(site, root, machine)


@dataclass(frozen=True)
class Place:
    """A machine that is enrolled at the registry by its URL as people type it, with the port."""

    site: Certified
    root: Path
    machine: Machine

    @property
    def host(self) -> str:
        """As references have it."""
        return self.site.server.host

    @property
    def url(self) -> str:
        port = self.site.server.port
        return self.site.url if self.host.endswith(f":{port}") else f"{self.site.url}:{port}"

    def token_for(self, client: Client) -> PullToken:
        """Enrol the machine, set the client up there, and mint for it."""
        token = self.site.mint(self.site.enroll(self.root, self.url))
        self.machine.is_at(self.root, self.host, client)
        return token

    def judge(self, client: Client, token: PullToken, pulled: Result) -> None:
        if self.host.startswith("[") and client.name in NO_IPV6:
            assert "invalid reference format" in pulled.output
        else:
            pulled.check()
            assert client.digest(token.reference) in IMAGE.digests


@pytest.fixture
def helped(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> "Helped":
    monkeypatch.setenv("PATH", str(CRISPER.parent), prepend=":")
    return Helped(own_folder, monkeypatch)


class Helped:
    """A machine whose clients ask the credential helpers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._tokens = folder / "tokens.json"
        self._sources = folder / "credentials.json"
        monkeypatch.setenv("CRISPER_CREDENTIALS", str(self._sources))

    def supply(self, url: str, token: PullToken, password: str) -> None:
        """Be the scheduler, which names the registry by its URL."""
        offer = {"image": token.reference, "username": token.username, "password": password}
        self._tokens.write_text(json.dumps([offer]))
        self._sources.write_text(json.dumps({url: {"file": str(self._tokens)}}))
        host = token.reference.partition("/")[0]
        (self.folder / "config.json").write_text(json.dumps({"credHelpers": {host: "crisper"}}))

    def kubelet(self, image: str) -> str:
        """Ask the provider as the kubelet does."""
        request = {
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "kind": "CredentialProviderRequest",
            "image": image,
        }
        provider = str(CRISPER.with_name("crisper-credential-provider"))
        done = subprocess.run(
            [provider], input=json.dumps(request), capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout


def test_a_mint_the_realm_and_the_portal_name_one_host(site: Certified) -> None:
    server, (node, _) = site.server, site.enrolled()
    token = site.mint(node)
    assert token.reference == f"{server.host}/{site.repository}:v1"
    shown = server.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["image"]["reference"].startswith(f"{server.host}/{site.repository}@sha256:")
    challenge = site.send("GET", "/v2/").expect(401).headers["WWW-Authenticate"]
    assert f'realm="https://{server.host}/token"' in challenge
    portal = PortalVisitor(site.url, site.tls.trusting())
    portal.send("/sign-in", {"key": server.operator_key}).expect(303)
    group = f"/groups/{site.repository}"
    assert f">{server.host}/{site.repository}:v1<" in portal.text(group)
    made = portal.send(f"{group}/mint", {"node": node.node_id, "ttl": "300"}).expect(303)
    minted = portal.text(made.headers["Location"])
    assert minted.count(f"{server.host}/{site.repository}:v1") >= len(CLIENTS)
    assert not re.search(r":443\b", minted)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_pulls_what_the_mint_answers(name: str, everybody: dict[str, Client], place: Place) -> None:
    client = everybody[name]
    token = place.token_for(client)
    place.judge(client, token, client.pull(token.reference, token.username, token.token))


@pytest.mark.parametrize("name", HELPED)
def test_a_client_pulls_with_the_credential_helper(
    name: str, everybody: dict[str, Client], place: Place, helped: Helped
) -> None:
    client = everybody[name]
    assert isinstance(client, Docker | Podman | Skopeo)
    token = place.token_for(client)
    helped.supply(place.url, token, token.token)
    place.judge(client, token, client.pull_with(helped.folder, token.reference))


def test_containerd_pulls_with_what_the_kubelets_provider_answers(
    everybody: dict[str, Client], place: Place, helped: Helped
) -> None:
    client = everybody["containerd"]
    token = place.token_for(client)
    helped.supply(place.url, token, token.token)
    ((image, credential),) = json.loads(helped.kubelet(token.reference))["auth"].items()
    assert image == f"{place.host}/{place.site.repository}"
    pulled = client.pull(token.reference, credential["username"], credential["password"])
    place.judge(client, token, pulled)


def test_crisper_node_pull_finds_its_certificate_under_the_reference(place: Place) -> None:
    node = place.site.enroll(place.root, place.url)
    for number, host in enumerate((place.host, place.url.partition("://")[2])):
        token = place.site.mint(node)
        reference = token.reference.replace(place.host, host)
        argv = [str(CRISPER), "node", "pull", reference, "--root", str(place.root)]
        run(
            [*argv, "--output", str(place.root / f"layout-{number}")], env={"CRISPER_PULL_TOKEN": token.token}
        ).check()


def test_crane_pulls_with_the_credential_helper(place: Place, helped: Helped) -> None:
    node = place.site.server.operator.create_node()
    token = place.site.mint(node)
    helped.supply(place.url, token, token.password(node))
    env = {"DOCKER_CONFIG": str(helped.folder), "SSL_CERT_FILE": str(place.site.tls.ca)}
    layout = str(helped.folder / "layout")
    run([str(go_program("crane")), "pull", "--format=oci", token.reference, layout], env=env).check()
