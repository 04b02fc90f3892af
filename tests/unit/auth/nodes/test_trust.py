"""Whom a certificate speaks for: one row per way to be wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from auth.errors import CertificateRequestError, KeyMaterialError
from auth.nodes.ca import NodeCA
from auth.nodes.requests import read_public_key
from auth.nodes.trust import ClientTrust, Issuers
from auth.peer import Fault, PeerCertificate, RejectedCertificate, described, proves, thumbprint
from tests.support.certificates import CLIENT, HOUR, SERVER, TestCa, new_key, signing_request

_DER, _PEM = serialization.Encoding.DER, serialization.Encoding.PEM
NODE = "urn:crisper:node:node-1"
Forge = Callable[[TestCa, TestCa], bytes]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("foreign"))  # of the same name


@pytest.fixture
def trust(ca: TestCa) -> ClientTrust:
    return ClientTrust(Issuers([ca.certificate]))


def made(**changes: object) -> Forge:
    return lambda ca, _: ca.issue("any", **{"uris": [NODE], **changes}).der  # type: ignore[arg-type]


FORGERIES: dict[str, tuple[Forge, Fault]] = {
    "no certificate at all": (lambda *_: b"junk", Fault.MALFORMED),
    "64 KB of it": (lambda *_: bytes(64 << 10), Fault.MALFORMED),
    "bytes behind it": (lambda ca, _: ca.issue("any", uris=[NODE]).der + b"\0", Fault.MALFORMED),
    "another CA of the same name": (lambda _, foreign: foreign.issue("any", uris=[NODE]).der, Fault.FOREIGN),
    "the CA itself": (lambda ca, _: ca.certificate.public_bytes(_DER), Fault.WRONG_PURPOSE),
    "a CA below it": (made(ca=True), Fault.WRONG_PURPOSE),
    "a server's": (made(purposes=SERVER), Fault.WRONG_PURPOSE),
    "no purpose": (made(purposes=()), Fault.WRONG_PURPOSE),
    "expired": (made(expires_in=-HOUR), Fault.EXPIRED),
    "no name": (made(uris=[]), Fault.UNNAMED),
    "another scheme's name": (made(uris=["urn:other:node:node-1"]), Fault.UNNAMED),
    "two nodes": (made(uris=[NODE, "urn:crisper:node:node-2"]), Fault.UNNAMED),
    "the same node twice": (made(uris=[NODE, NODE]), Fault.UNNAMED),
    "an empty name": (made(uris=["urn:crisper:node:"]), Fault.UNNAMED),
    "a name with a path": (made(uris=["urn:crisper:node:../node-1"]), Fault.UNNAMED),
    "an unknown condition": (
        made(extra=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")),
        Fault.WRONG_PURPOSE,
    ),
}


@pytest.mark.parametrize(("forge", "fault"), FORGERIES.values(), ids=FORGERIES)
def test_a_certificate_that_is_not_a_nodes_is_rejected(
    trust: ClientTrust, ca: TestCa, foreign: TestCa, forge: Forge, fault: Fault
) -> None:
    der = forge(ca, foreign)
    for _ in range(2):  # what is remembered is judged alike
        shown = trust.node(der, now())
        assert shown == RejectedCertificate(fault, thumbprint(der))
    assert not proves(shown, "node-1")
    assert described(shown) == {"x5t#S256": thumbprint(der), "fault": fault.value}


def test_a_good_certificate_speaks_for_its_node_while_it_is_valid(trust: ClientTrust, ca: TestCa) -> None:
    der = ca.issue("any", uris=["https://example.com", NODE]).der
    shown = trust.node(der, now())
    assert isinstance(shown, PeerCertificate)
    assert proves(shown, "node-1")
    assert not proves(shown, "node-2")
    assert described(shown) == {"x5t#S256": thumbprint(der)}
    later, earlier = trust.node(der, now() + 2 * HOUR), trust.node(der, now() - 2 * HOUR)
    assert isinstance(later, RejectedCertificate)
    assert isinstance(earlier, RejectedCertificate)
    assert (later.fault, earlier.fault) == (Fault.EXPIRED, Fault.NOT_YET_VALID)


def test_a_proxy_is_who_names_no_node(trust: ClientTrust, ca: TestCa, foreign: TestCa) -> None:
    assert trust.speaks(ca.issue("proxy").der, now())
    assert not trust.speaks(ca.issue("node", uris=[NODE]).der, now())
    assert not trust.speaks(ca.issue("server", purposes=SERVER).der, now())
    assert not trust.speaks(foreign.issue("proxy").der, now())
    assert not trust.speaks(ca.issue("old", expires_in=-HOUR).der, now())


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "Ed25519", "RSA-2048"],
)  # fmt: skip
def test_the_ca_speaks_for_a_node_with_a_key_of_any_kind_that_is_allowed(tmp_path: Path, key: object) -> None:
    authority = NodeCA.create(tmp_path)
    public = read_public_key(signing_request(key))
    certificate = authority.issue(public, "n" * 128, now())
    assert certificate.public_key() == public
    assert certificate.not_valid_after_utc - now() < timedelta(hours=24)
    shown = ClientTrust(Issuers([authority.certificate])).node(certificate.public_bytes(_DER), now())
    assert proves(shown, "n" * 128)


@pytest.mark.parametrize(
    "request_",
    [
        "junk",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "A" * (1 << 20),
        signing_request(ec.generate_private_key(ec.SECP256K1())),
        signing_request(ec.generate_private_key(ec.SECP521R1())),
        signing_request(rsa.generate_private_key(65537, 1024)),  # noqa: S505 (to be refused)
        signing_request(rsa.generate_private_key(65537, 5120)),
        signing_request(rsa.generate_private_key(3, 2048)),
    ],
    ids=["junk", "no request", "1 MB", "secp256k1", "P-521", "RSA-1024", "RSA-5120", "RSA, exponent 3"],
)
def test_a_request_for_any_other_key_is_refused(request_: str) -> None:
    with pytest.raises(CertificateRequestError):
        read_public_key(request_)


def test_a_request_that_its_own_key_did_not_sign_is_refused() -> None:
    der = bytearray(x509.load_pem_x509_csr(signing_request(new_key()).encode()).public_bytes(_DER))
    der[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(_PEM).decode()
    with pytest.raises(CertificateRequestError, match="its own key"):
        read_public_key(pem)


def test_issuers_are_cas_and_nothing_else(tmp_path: Path) -> None:
    ca = TestCa.create(tmp_path)
    leaf = ca.issue("leaf", purposes=CLIENT)
    for content in (leaf.certificate.read_bytes(), b"junk"):
        path = tmp_path / "bundle.pem"
        path.write_bytes(content)
        with pytest.raises(KeyMaterialError):
            Issuers.load(path)
    with pytest.raises(KeyMaterialError):
        Issuers.load(tmp_path / "missing.pem")
    both = Issuers.load(ca.path) + Issuers([])
    assert both.issued(x509.load_der_x509_certificate(leaf.der), now())
