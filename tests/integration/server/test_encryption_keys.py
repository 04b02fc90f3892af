"""Encryption keys of nodes over HTTP: set by the operator, and by the node with its certificate."""

import json
from collections.abc import Callable
from pathlib import Path
from secrets import randbits

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519

from registry.oci.node_key import NodeKey
from tests.integration.server.conftest import Shop
from tests.support.certificates import key_pem, public_pem
from tests.support.certified import Certified
from tests.support.crisper import CRISPER, Operator, unique
from tests.support.http import Response
from tests.support.processes import Result, run


@pytest.fixture
def site(certified: Certified) -> Certified:
    return certified


@pytest.fixture
def operator(site: Certified) -> Operator:
    return site.server.operator


def new_pem() -> str:
    return public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())


def thumbprint(pem: str) -> str:
    return NodeKey.parse(pem).thumbprint


def changes(operator: Operator, node_id: str) -> list[dict[str, object]]:
    return [e["detail"] for e in operator.events(type="node.key_changed") if e["node_id"] == node_id]


def put(site: Certified, node_id: str, shown: object = None, **body: object) -> Response:
    return site.send("PUT", f"/api/v1/nodes/{node_id}/encryption-key", shown, body=body)  # type: ignore[arg-type]


def test_a_node_sets_its_key_with_its_certificate(site: Certified, operator: Operator) -> None:
    node, shown = site.enrolled()
    first, second = new_pem(), new_pem()
    set_ = put(site, node.node_id, shown, public_key=first, runtime="containerd").expect(200).json()
    assert set_ == {
        "node_id": node.node_id,
        "key_thumbprint": thumbprint(first),
        "previous_key_thumbprint": None,
        "runtime": "containerd",
    }
    for _ in range(2):
        put(site, node.node_id, shown, public_key=first).expect(200)
    put(site, node.node_id, shown, public_key=second.replace("\n", "\r\n")).expect(200)
    known = operator.call("GET", f"/nodes/{node.node_id}").expect(200).json()
    assert known["encryption_key"] == second
    assert known["key_thumbprint"] == thumbprint(second)
    assert known["previous_key_thumbprint"] == thumbprint(first)
    assert known["runtime"] == "containerd"
    assert known in operator.call("GET", "/nodes").expect(200).json()["items"]
    assert changes(operator, node.node_id) == [
        {
            "key_thumbprint": thumbprint(first),
            "previous_key_thumbprint": None,
            "runtime": "containerd",
        },
        {
            "key_thumbprint": thumbprint(second),
            "previous_key_thumbprint": thumbprint(first),
            "runtime": "containerd",
        },
    ]


@pytest.mark.parametrize("binding", ["secret", "certificate"])
def test_the_operator_sets_a_nodes_key(operator: Operator, binding: str) -> None:
    node_id, first, second = unique("node"), new_pem(), new_pem()
    new = {"node_id": node_id, "binding": binding, "encryption_key": first, "runtime": "skopeo"}
    operator.call("POST", "/nodes", new).expect(201)
    assert operator.call("GET", f"/nodes/{node_id}").json()["key_thumbprint"] == thumbprint(first)
    (created,) = [e for e in operator.events(type="node.created") if e["node_id"] == node_id]
    assert created["detail"] == {"key_thumbprint": thumbprint(first), "runtime": "skopeo"}
    path = f"/nodes/{node_id}/encryption-key"
    set_ = operator.call("PUT", path, {"public_key": second, "runtime": "podman"}).expect(200).json()
    assert (set_["key_thumbprint"], set_["runtime"]) == (thumbprint(second), "podman")
    assert operator.call("PUT", path, {"public_key": second}).expect(200).json() == set_
    assert len(changes(operator, node_id)) == 1
    operator.call("PUT", "/nodes/never-was/encryption-key", {"public_key": second}).expect(404)


def test_only_the_node_itself_and_the_operator_may_set_its_key(site: Certified, operator: Operator) -> None:
    node, own = site.enrolled()
    _, others = site.enrolled()
    by_secret = operator.create_node()
    unnamed = site.operators_ca.issue(unique("unnamed"))
    its = site.operators_ca.issue(unique("its"), uris=[f"urn:crisper:node:{by_secret.node_id}"])
    attempts = [
        (put(site, node.node_id, others, public_key=new_pem()), 403, "wrong_node"),
        (put(site, node.node_id, others, public_key="junk"), 403, "wrong_node"),
        (put(site, "nobody", own, public_key=new_pem()), 403, "wrong_node"),
        (put(site, "nobody%ED%B3%BF", own, public_key=new_pem()), 403, "wrong_node"),
        (put(site, node.node_id, None, public_key=new_pem()), 401, "wrong_peer"),
        (put(site, node.node_id, unnamed, public_key=new_pem()), 401, "wrong_peer"),
        (put(site, by_secret.node_id, its, public_key=new_pem()), 401, "wrong_peer"),
    ]
    assert [answer.status for answer, _, _ in attempts] == [status for _, status, _ in attempts]
    refusals = operator.events(type="node.refused")[-len(attempts) :]
    assert [event["cause"] for event in refusals] == [cause for _, _, cause in attempts]
    assert {event["detail"]["at"] for event in refusals} == {"encryption-key"}
    assert "x5t#S256" in refusals[0]["detail"]
    for key in ("wrong", site.server.operator_key + "x", ""):
        headers = {"Authorization": f"Bearer {key}"}
        path = f"/api/v1/nodes/{node.node_id}/encryption-key"
        site.send("PUT", path, own, headers=headers, body={"public_key": new_pem()}).expect(401)
    assert operator.call("GET", f"/nodes/{node.node_id}").json()["encryption_key"] is None


def test_a_deleted_node_loses_its_keys_and_gets_no_other(site: Certified, operator: Operator) -> None:
    node, shown = site.enrolled()
    for _ in range(2):
        put(site, node.node_id, shown, public_key=new_pem()).expect(200)
    operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
    put(site, node.node_id, shown, public_key=new_pem()).expect(401)
    path = f"/nodes/{node.node_id}/encryption-key"
    assert "deleted" in operator.call("PUT", path, {"public_key": new_pem()}).expect(409).json()["detail"]
    known = operator.call("GET", f"/nodes/{node.node_id}").json()
    assert (known["encryption_key"], known["key_thumbprint"], known["previous_key_thumbprint"]) == (None,) * 3


def rsa_pem(bits: int, exponent: int = 65537) -> str:
    """Return a public key with a modulus that nobody can factor quickly; it has no private half."""
    modulus = 1 << (bits - 1) | randbits(bits - 2) << 1 | 1
    return public_pem(rsa.RSAPublicNumbers(exponent, modulus).public_key())


WEAK: dict[str, tuple[Callable[[], str], str]] = {
    "RSA of 1024 bits": (lambda: rsa_pem(1024), "1024 bits"),
    "RSA with the exponent 3": (lambda: rsa_pem(2048, 3), "exponent"),
    "P-384": (lambda: public_pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "secp384r1"),
    "secp256k1": (lambda: public_pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "P-256"),
    "Ed25519": (lambda: public_pem(ed25519.Ed25519PrivateKey.generate().public_key()), "Ed25519"),
    "X25519": (lambda: public_pem(x25519.X25519PrivateKey.generate().public_key()), "X25519"),
    "DSA": (lambda: public_pem(dsa.generate_private_key(2048).public_key()), "DSA"),
    "a private key": (lambda: key_pem(ec.generate_private_key(ec.SECP256R1())).decode(), "private key"),
    "a certificate": (lambda: new_pem().replace("PUBLIC KEY", "CERTIFICATE"), "certificate"),
    "two keys": (lambda: new_pem() + new_pem(), "2 PEM blocks"),
    "a cut key": (lambda: new_pem()[:90] + "\n-----END PUBLIC KEY-----\n", "P-256"),
    "an SSH key": (lambda: "ecdsa-sha2-nistp256 AAAAE2VjZHNh user@host", "not a public key in PEM"),
    "junk": (lambda: "junk", "not a public key in PEM"),
}


@pytest.mark.parametrize(("make", "reason"), WEAK.values(), ids=WEAK)
def test_a_key_that_runtimes_cannot_use_is_refused_with_its_reason(
    operator: Operator, make: Callable[[], str], reason: str
) -> None:
    node_id, bad = operator.create_node().node_id, make()
    refused = operator.call("PUT", f"/nodes/{node_id}/encryption-key", {"public_key": bad}).expect(400).json()
    assert reason in " ".join(refused["errors"]["public_key"])
    new = {"node_id": unique("node"), "binding": "secret", "encryption_key": bad}
    refused = operator.call("POST", "/nodes", new).expect(400).json()
    assert reason in " ".join(refused["errors"]["encryption_key"])
    operator.call("GET", f"/nodes/{new['node_id']}").expect(404)
    assert bad.strip()[-40:] not in str(refused)


@pytest.mark.parametrize("runtime", ["rkt", "Containerd", "", "containerd ", "x" * 10_000, 7, ["podman"]])
def test_an_unknown_runtime_is_refused_with_a_list(operator: Operator, runtime: object) -> None:
    node_id = operator.create_node().node_id
    for (
        method,
        path,
        body,
    ) in (
        ("PUT", f"/nodes/{node_id}/encryption-key", {"public_key": new_pem(), "runtime": runtime}),
        ("POST", "/nodes", {"node_id": unique("node"), "binding": "secret", "runtime": runtime}),
    ):
        reasons = operator.call(method, path, body).expect(400).json()["errors"]["runtime"]
        for name in ("containerd", "cri-o", "docker", "podman", "skopeo"):
            assert name in reasons[0]


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_are_accepted(operator: Operator, bits: int) -> None:
    node_id, pem = operator.create_node().node_id, rsa_pem(bits)
    operator.call("PUT", f"/nodes/{node_id}/encryption-key", {"public_key": pem}).expect(200)
    assert operator.call("GET", f"/nodes/{node_id}").json()["encryption_key"] == pem


def test_large_bodies_are_refused(operator: Operator) -> None:
    node_id = operator.create_node().node_id
    path = f"/nodes/{node_id}/encryption-key"
    operator.call("PUT", path, {"public_key": "x" * ((16 << 10) + 1)}).expect(400)
    operator.call("PUT", path, {"public_key": "x" * (65 << 10)}).expect(413)


def test_the_operators_commands_set_and_show_keys(shop: Shop, tmp_path: Path) -> None:
    def crisper(*argv: str) -> Result:
        return run([str(CRISPER), "node", *argv, "--data-dir", str(shop.server.data_dir)])

    node_id, first, second = unique("node"), tmp_path / "first.pem", tmp_path / "second.pem"
    first.write_text(new_pem())
    second.write_text(new_pem())
    crisper("create", node_id, "--encryption-key", str(first), "--runtime", "podman").check()
    shown = json.loads(crisper("show", node_id, "--json").check().output)
    assert (shown["key_thumbprint"], shown["runtime"]) == (thumbprint(first.read_text()), "podman")
    set_ = json.loads(crisper("set-key", node_id, str(second), "--json").check().output)
    assert set_["key_thumbprint"] == thumbprint(second.read_text())
    assert set_["previous_key_thumbprint"] == thumbprint(first.read_text())
    (line,) = [line for line in crisper("list").check().output.splitlines() if node_id in line]
    assert set_["key_thumbprint"][:12] in line
    assert set_["key_thumbprint"][:13] not in line
    assert "podman" in line
    listed = json.loads(crisper("list", "--json").check().output)
    assert set_["key_thumbprint"] in {node["key_thumbprint"] for node in listed}


@pytest.mark.parametrize("command", ["set-key", "create"])
def test_the_operators_commands_never_send_a_private_key(tmp_path: Path, command: str) -> None:
    private = tmp_path / "key.pem"
    private.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    options = ["--encryption-key"] if command == "create" else []
    env = {"CRISPER_URL": "http://127.0.0.1:9", "CRISPER_API_KEY": "x"}  # nothing listens there
    refused = run([str(CRISPER), "node", command, "pc-7", *options, str(private)], env=env)
    assert (refused.returncode, "private key" in refused.output) == (1, True)
