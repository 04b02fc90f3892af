"""Nodes bound by certificate, over real TLS: enrolment, renewal, and every request of a pull."""

import os
import signal
import socket
import ssl
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from auth.nodes.ca import NodeCA
from tests.support.certificates import HOUR, CertificateFiles, TestCa, key_pem, new_key, signing_request
from tests.support.certified import Certified
from tests.support.crisper import CrisperServer, Node, unique
from tests.support.http import basic, request
from tests.support.processes import wait_until


@pytest.fixture
def site(certified: Certified) -> Certified:
    return certified


def refused_by_handshake(site: Certified, shown: CertificateFiles) -> bool:
    """Tell whether the TLS layer refuses: with TLS 1.3 that shows at the first read."""
    try:
        site.send("GET", "/v2/", shown)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


# -- enrolment and renewal ----------------------------------------------------------------------


def test_a_node_enrols_pulls_and_renews(site: Certified) -> None:
    node, shown = site.enrolled()
    certificate = x509.load_pem_x509_certificate(shown.certificate.read_bytes())
    assert timedelta(hours=23) < certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(hours=24)
    token = site.mint(node)
    bearer = site.exchange(token, shown).expect(200).json()["token"]
    site.manifest(bearer, shown).expect(200)

    key = new_key()
    answer = site.ask(node.node_id, shown=shown, csr=signing_request(key)).expect(200).json()
    renewed = site.files(f"{node.node_id}-renewed", answer["certificate"], key)
    assert answer["ca"].startswith("-----BEGIN CERTIFICATE-----")
    site.manifest(bearer, renewed).expect(200)  # the session goes on with the next certificate
    assert site.exchange(token, renewed).expect(200)

    types = [event["type"] for event in site.server.operator.events() if event["node_id"] == node.node_id]
    assert types[:3] == ["node.created", "node.enrolled", "token.minted"]
    assert "node.renewed" in types
    (redeemed,) = site.server.operator.redemptions(token)
    assert len(redeemed["detail"]["x5t#S256"]) == 43


def test_an_enrolment_secret_is_for_one_key(site: Certified) -> None:
    node_id, secret = site.server.operator.create_certified_node()
    requests = [signing_request(new_key()) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda csr: site.ask(node_id, secret=secret, csr=csr), requests))
    granted = [csr for csr, answer in zip(requests, answers, strict=True) if answer.status == 200]
    assert sorted(answer.status for answer in answers) == [200] + 19 * [401]
    site.ask(node_id, secret=secret, csr=granted[0]).expect(200)  # its answer may have been lost
    site.ask(node_id, secret=secret).expect(401)
    refusals = site.server.operator.events(type="node.refused")
    assert {event["cause"] for event in refusals if event["node_id"] == node_id} == {"replayed"}


def test_every_wrong_enrolment_is_refused_alike_and_recorded_apart(site: Certified) -> None:
    operator = site.server.operator
    node_id, secret = operator.create_certified_node()
    struck, its_secret = operator.create_certified_node()
    operator.call("DELETE", f"/nodes/{struck}").expect(204)
    by_secret = operator.create_node()
    _, shown = site.enrolled()
    attempts = [
        (site.ask(node_id, secret="wrong"), "wrong_secret"),
        (site.ask(node_id, secret=its_secret), "wrong_secret"),
        (site.ask(node_id), "wrong_peer"),
        (site.ask(node_id, shown=shown), "wrong_peer"),
        (site.ask("nobody", secret=secret), "node_unknown"),
        (site.ask("nobody%ED%B3%BF", secret=secret), "node_unknown"),
        (site.ask(node_id, secret="wrong", csr="junk"), "wrong_secret"),  # not read before the secret
        (site.ask(node_id, shown=shown, csr="junk"), "wrong_peer"),
        (site.ask("nobody", secret=secret, csr="junk"), "node_unknown"),
        (site.ask(struck, secret=its_secret), "node_revoked"),
        (site.ask(by_secret.node_id, secret=by_secret.secret), "wrong_peer"),
    ]
    assert [answer.status for answer, _ in attempts] == 11 * [401]
    assert len({answer.json()["detail"] for answer, _ in attempts}) == 1
    assert site.causes(type="node.refused")[-11:] == [cause for _, cause in attempts]
    site.ask(node_id, secret=secret, csr="junk").expect(400)
    site.ask(node_id, secret=secret).expect(200)  # none of it spent the secret


def test_another_enrolment_voids_the_one_before(site: Certified) -> None:
    operator = site.server.operator
    node_id, first = operator.create_certified_node()
    again = operator.call("POST", f"/nodes/{node_id}/enrolment").expect(201).json()
    site.ask(node_id, secret=first).expect(401)
    site.ask(node_id, secret=again["enrolment_secret"]).expect(200)
    by_secret = operator.create_node()
    operator.call("POST", f"/nodes/{by_secret.node_id}/enrolment").expect(409)


def test_a_node_struck_off_keeps_a_certificate_that_opens_nothing(site: Certified) -> None:
    node, shown = site.enrolled()
    token, waiting = site.mint(node), site.mint(node)
    bearer = site.exchange(token, shown).expect(200).json()["token"]
    site.server.operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
    site.manifest(bearer, shown).expect(401)
    site.exchange(waiting, shown).expect(401)
    site.ask(node.node_id, shown=shown).expect(401)
    assert site.causes(token_id=waiting.token_id) == ["revoked"]


def test_an_operators_own_ca_speaks_for_nodes(site: Certified) -> None:
    node_id, _ = site.server.operator.create_certified_node()
    shown = site.operators_ca.issue(node_id, uris=[f"urn:crisper:node:{node_id}"])
    token = site.mint(Node(node_id, ""))
    bearer = site.exchange(token, shown).expect(200).json()["token"]
    site.manifest(bearer, shown).expect(200)


# -- what is refused ----------------------------------------------------------------------------

SHOWN = {
    "none": (lambda *_: None, False),
    "another node's": (lambda site, _: site.enrolled()[1], False),
    "a common name": (lambda site, node: site.operators_ca.issue(node), False),
    "two nodes": (
        lambda site, node: site.operators_ca.issue(
            node, uris=[f"urn:crisper:node:{node}", "urn:crisper:node:other"]
        ),
        False,
    ),
    "a server's": (
        lambda site, node: site.operators_ca.issue(
            node, uris=[f"urn:crisper:node:{node}"], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)
        ),
        True,
    ),
    "an expired one": (
        lambda site, node: site.operators_ca.issue(node, uris=[f"urn:crisper:node:{node}"], expires_in=-HOUR),
        True,
    ),
    "a foreign CA's": (
        lambda site, node: TestCa.create(site.folder / "foreign", "Operator's nodes").issue(
            node, uris=[f"urn:crisper:node:{node}"]
        ),
        True,
    ),
}


@pytest.mark.parametrize(("make", "in_handshake"), SHOWN.values(), ids=SHOWN)
def test_a_certificate_bound_session_needs_its_nodes_certificate(
    site: Certified,
    make: object,
    in_handshake: bool,  # noqa: FBT001
) -> None:
    node, own = site.enrolled()
    token = site.mint(node)
    bearer = site.exchange(site.mint(node), own).expect(200).json()["token"]
    shown = make(site, node.node_id)  # type: ignore[operator]
    if in_handshake:
        assert refused_by_handshake(site, shown)
        return
    site.exchange(token, shown).expect(401)
    challenge = site.manifest(bearer, shown).expect(401).headers["WWW-Authenticate"]
    assert 'error="invalid_token"' in challenge
    assert site.causes(token_id=token.token_id) == ["wrong_peer"]
    assert site.server.operator.token_state(token) == "minted"
    site.manifest(bearer, own).expect(200)


def test_a_node_secret_does_not_stand_in_for_a_certificate(site: Certified) -> None:
    node, own = site.enrolled()
    token = site.mint(node)
    site.exchange(token, None, username=node.node_id).expect(401)
    other = site.server.operator.create_node()
    site.exchange(token, own, username=other.node_id).expect(401)


@pytest.mark.parametrize("name", ["Client-Cert", "Client-Cert-Chain"])
@pytest.mark.parametrize("path", ["/token", "/v2/", "/healthz", "/api/v1/events"])
def test_a_client_cert_header_from_anybody_is_a_400(site: Certified, name: str, path: str) -> None:
    _, own = site.enrolled()
    header = {name: f":{b64encode(own.der).decode()}:"}
    for shown in (None, own):
        refused = site.send("GET", path, shown, headers=header).expect(400)
        assert ("errors" in refused.json()) == path.startswith(("/token", "/v2"))


def test_networks_apply_and_a_nodes_forwarded_address_does_not_count(site: Certified) -> None:
    far, far_shown = site.enrolled(networks=["192.0.2.0/24"])
    near, near_shown = site.enrolled(networks=["127.0.0.0/8"])
    token = site.mint(far)
    site.exchange(token, far_shown, X_Forwarded_For="192.0.2.7").expect(401)
    assert site.causes(token_id=token.token_id) == ["wrong_network"]
    site.exchange(site.mint(near), near_shown).expect(200)


def test_an_expired_certificate_on_a_living_connection_opens_nothing_more(site: Certified) -> None:
    """The TLS layer saw it while it was good."""
    node, _ = site.enrolled()
    key = new_key()
    authority = NodeCA.load(site.server.data_dir / "node-ca")
    made = authority.issue(key.public_key(), node.node_id, datetime.now(UTC), lifetime=timedelta(seconds=2))
    short = site.files("short", made.public_bytes(serialization.Encoding.PEM).decode(), key)
    assert site.server.tls is not None
    with (
        socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as raw,
        site.server.tls.trusting(short).wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        asked = (
            f"GET /token?service=crisper&scope=repository:{site.repository}:pull HTTP/1.1\r\n"
            f"Host: x\r\nAuthorization: {{}}\r\n\r\n"
        )
        statuses = []
        for _ in range(2):
            token = site.mint(node)
            connection.sendall(asked.format(basic(node.node_id, token.token)).encode())
            statuses.append(connection.recv(65536).split()[1])
            time.sleep(2.5)
    assert statuses == [b"200", b"401"]
    (refused,) = site.server.operator.events(type="token.refused", token_id=token.token_id)
    assert (refused["cause"], refused["detail"]["fault"]) == ("wrong_peer", "expired")


# -- the server's own certificate ---------------------------------------------------------------


def serial(site: Certified) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", site.server.port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_the_servers_certificate_is_renewed_without_a_restart(site: Certified) -> None:
    tls = site.server.tls
    assert tls is not None
    before, pid = serial(site), site.server.process.pid
    key = tls.key.read_bytes()
    tls.key.write_bytes(key_pem(new_key()))
    os.kill(pid, signal.SIGHUP)  # not the certificate's key: what is in use stays in use
    wait_until(lambda: "tls.not_reloaded" in site.server.log.read_text(), timeout_s=10, what="it is refused")
    assert serial(site) == before
    tls.key.write_bytes(key)
    ca = TestCa.create(site.folder / "next", "Servers")
    fresh = ca.issue("server", hosts=["127.0.0.1"], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    for new, old in ((fresh.ca, tls.ca), (fresh.key, tls.key), (fresh.certificate, tls.certificate)):
        new.replace(old)
    wait_until(lambda: serial(site) != before, timeout_s=20, what="the new certificate is served")
    site.server.trust = tls.trusting()
    site.send("GET", "/readyz").expect(200)
    assert site.server.process.pid == pid


def test_an_enrolment_secret_expires(tmp_path: Path) -> None:
    with CrisperServer(tmp_path / "server", env={"CRISPER_ENROLMENT_S": "1"}) as server:
        node_id, secret = server.operator.create_certified_node(unique("node"))
        time.sleep(1.2)
        headers, body = {"Authorization": f"Bearer {secret}"}, {"csr": signing_request(new_key())}
        url = f"{server.url}/api/v1/nodes/{node_id}/certificate"
        request("POST", url, headers=headers, body=body).expect(401)
        assert [event["cause"] for event in server.operator.events(type="node.refused")] == ["expired"]
