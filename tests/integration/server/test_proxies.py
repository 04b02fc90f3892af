"""Behind a real nginx and a real HAProxy, with the configurations that are shipped."""

import grp
import shutil
import socket
import stat
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import images
from tests.support.certificates import HOUR, CertificateFiles, TestCa, new_key, public_pem
from tests.support.certified import Certified
from tests.support.crisper import CrisperServer
from tests.support.processes import free_port
from tests.support.proxies import SHIPPED, Proxy, nginx
from tests.support.upstream import Upstream

SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
PROXIES = ("nginx", "haproxy")


@dataclass
class Proxied:
    """The same server, reached through a proxy."""

    site: Certified
    socket: Path
    proxies_ca: TestCa
    urls: dict[str, str]

    def through(self, proxy: str) -> Certified:
        self.site.url = self.urls[proxy]
        return self.site


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that nginx's own user can reach."""
    made = Path(mkdtemp(prefix="proxied-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def proxied(folder: Path, upstream: Upstream) -> Iterator[Proxied]:
    servers_ca = TestCa.create(folder / "servers", "Servers")
    operators_ca = TestCa.create(folder / "operators", "Operator's nodes")
    proxies_ca = TestCa.create(folder / "proxies", "Proxies")
    tls = servers_ca.issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    env = {
        "CRISPER_NODE_CA": str(operators_ca.path),
        "CRISPER_PROXY_CA": str(proxies_ca.path),
        "CRISPER_UNIX_SOCKET": str(folder / "proxy.sock"),
        "CRISPER_UNIX_SOCKET_GROUP": "www-data",
        "CRISPER_WORKERS": "2",
    }
    with ExitStack() as stack:
        server = stack.enter_context(
            CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env, tls=tls)
        )
        site = Certified(server, folder, operators_ca, upstream, images.multi_platform())
        own_ca = (server.data_dir / "node-ca" / "certificate.pem").read_text()
        (folder / "node-ca.crt").write_text(own_ca + operators_ca.path.read_text())
        urls = {
            "nginx": stack.enter_context(nginx(folder, tls)),
            "haproxy": stack.enter_context(_haproxy(folder, tls, proxies_ca, server.port)),
        }
        yield Proxied(site, folder / "proxy.sock", proxies_ca, urls)


def _haproxy(folder: Path, tls: CertificateFiles, proxies_ca: TestCa, server_port: int) -> Proxy:
    port, config = free_port(), (SHIPPED / "haproxy.cfg").read_text()
    identity = proxies_ca.issue("haproxy")
    for name, of in (("registry.pem", tls), ("crisper-proxy.pem", identity)):
        (folder / name).write_bytes(of.certificate.read_bytes() + of.key.read_bytes())
    shutil.copy(tls.ca, folder / "crisper-ca.crt")
    config = config.replace("/etc/haproxy/", f"{folder}/")
    config = config.replace("bind :443", f"bind 127.0.0.1:{port}")
    config = config.replace("server crisper 127.0.0.1:5000", f"server crisper 127.0.0.1:{server_port}")
    (folder / "haproxy.cfg").write_text(config)
    argv = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    return Proxy(argv, folder / "haproxy.log", port)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_node_enrols_pulls_and_renews_through_a_proxy(proxied: Proxied, proxy: str) -> None:
    site = proxied.through(proxy)
    node, shown = site.enrolled(networks=["127.0.0.0/8"])  # where the proxy saw it come from
    token = site.mint(node)
    bearer = site.exchange(token, shown).expect(200).json()["token"]
    site.manifest(bearer, shown).expect(200)
    site.ask(node.node_id, shown=shown).expect(200)
    path, key = f"/api/v1/nodes/{node.node_id}/encryption-key", public_pem(new_key().public_key())
    site.send("PUT", path, shown, body={"public_key": key}).expect(200)
    site.send("PUT", path, body={"public_key": key}).expect(401)
    (redeemed,) = site.server.operator.redemptions(token)
    assert redeemed["source"] == "127.0.0.1"
    assert len(redeemed["detail"]["x5t#S256"]) == 43


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_passes_on_nobody_elses_certificate_or_address(proxied: Proxied, proxy: str) -> None:
    site = proxied.through(proxy)
    node, own = site.enrolled(networks=["127.0.0.0/8"])
    _, another = site.enrolled()
    token = site.mint(node)
    claimed = f":{b64encode(own.der).decode()}:"
    far, far_shown = site.enrolled(networks=["192.0.2.0/24"])
    held = site.mint(far)
    site.exchange(token, None).expect(401)
    site.exchange(token, None, Client_Cert=claimed).expect(401)
    site.exchange(token, another, Client_Cert=claimed).expect(401)
    site.exchange(held, far_shown, X_Forwarded_For="192.0.2.7").expect(401)
    assert site.causes(token_id=token.token_id) == 3 * ["wrong_peer"]
    assert site.causes(token_id=held.token_id) == ["wrong_network"]
    site.exchange(token, own, X_Forwarded_For="192.0.2.7").expect(200)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_bad_certificate_does_not_come_through_a_proxy(proxied: Proxied, proxy: str) -> None:
    site = proxied.through(proxy)
    node, _ = site.enrolled()
    uris = [f"urn:crisper:node:{node.node_id}"]
    foreign = TestCa.create(site.folder / "foreign", "Operator's nodes")
    for shown in (
        site.operators_ca.issue("expired", uris=uris, expires_in=-HOUR),
        foreign.issue("foreign", uris=uris),
        site.operators_ca.issue("server-only", uris=uris, purposes=SERVER),
    ):
        try:
            answer = site.exchange(site.mint(node), shown)
        except OSError:
            continue  # the handshake failed
        assert answer.status in {400, 401}


def _over_socket(path: Path, *headers: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        lines = ["GET /v2/ HTTP/1.1", "Host: registry", "Connection: close", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer


def test_the_socket_is_for_the_proxys_group_only(proxied: Proxied) -> None:
    found = proxied.socket.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == grp.getgrnam("www-data").gr_gid


@pytest.mark.parametrize(
    "headers",
    [
        ["Client-Cert: junk"],
        ["Client-Cert: :not base64:"],
        ["Client-Cert: :"],
        ["Client-Cert: ::, ::"],
        ["Client-Cert: :AAAA:", "Client-Cert: :AAAA:"],
    ],
)
def test_a_header_that_cannot_be_read_is_a_400_even_from_a_proxy(
    proxied: Proxied, headers: list[str]
) -> None:
    assert _over_socket(proxied.socket, *headers)[0] == 400


@pytest.mark.parametrize("kind", ["expired", "foreign", "server-only", "other", "two nodes"])
def test_what_a_careless_proxy_lets_through_is_judged_here_again(proxied: Proxied, kind: str) -> None:
    site = proxied.through("nginx")
    node, own = site.enrolled()
    bearer = site.exchange(site.mint(node), own).expect(200).json()["token"]
    uris = [f"urn:crisper:node:{node.node_id}"]
    foreign = TestCa.create(site.folder / "careless", "Operator's nodes")
    shown = {
        "expired": lambda: site.operators_ca.issue("c", uris=uris, expires_in=-HOUR),
        "foreign": lambda: foreign.issue("c", uris=uris),
        "server-only": lambda: site.operators_ca.issue("c", uris=uris, purposes=SERVER),
        "other": lambda: site.enrolled()[1],
        "two nodes": lambda: site.operators_ca.issue("c", uris=[*uris, "urn:crisper:node:x"]),
    }[kind]()
    authorization = f"Authorization: Bearer {bearer}"
    status, answer = _over_socket(
        proxied.socket, authorization, f"Client-Cert: :{b64encode(shown.der).decode()}:"
    )
    assert (status, "invalid_token" in answer) == (401, True)
    status, _ = _over_socket(proxied.socket, authorization, f"Client-Cert: :{b64encode(own.der).decode()}:")
    assert status == 200


def test_a_node_is_no_proxy_and_a_proxy_is_no_node(proxied: Proxied) -> None:
    site = proxied.through("haproxy")
    site.url = site.server.url  # past the proxy
    node, own = site.enrolled()
    header = f":{b64encode(own.der).decode()}:"
    uris = [f"urn:crisper:node:{node.node_id}"]
    both = proxied.proxies_ca.issue("both", uris=uris)
    for shown in (own, both, None):
        site.exchange(site.mint(node), shown, Client_Cert=header).expect(400)
    site.exchange(site.mint(node), both).expect(401)
    proxy = proxied.proxies_ca.issue("another")
    site.exchange(site.mint(node), proxy).expect(401)
    site.exchange(site.mint(node), proxy, Client_Cert=header).expect(200)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/readyz", "/healthz", "/docs", "/openapi.json", "/api/v1/nodes", "/api/v1/events"),
        *("/%6detrics", "/v2/../metrics", "/v2/%2e%2e/metrics", "/v2/..%2fmetrics", "//metrics", "/metrics/"),
        *("/api/v1/nodes/n-1", "/api/v1/nodes/n-1/enrolment", "/api/v1/nodes/n/certificate/../../../events"),
    ],
)
def test_administration_is_not_reachable(proxied: Proxied, proxy: str, path: str) -> None:
    answer = proxied.through(proxy).send("GET", path)
    assert answer.status in {400, 401, 404}
    assert b"crisper_" not in answer.body
    assert b"failing" not in answer.body
    assert b"openapi" not in answer.body
