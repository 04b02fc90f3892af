"""Signatures of the Notary Project, in both envelopes: which are valid, and why the others are not."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import SignatureError
from registry.trust.notation import NotationVerifier
from registry.trust.policy import NotationRule
from registry.trust.signatures import NotationEnvelope, Subject
from storage.digest import Digest
from tests.support.notary import (
    CA,
    DAY,
    ENVELOPES,
    LEAF,
    NOW,
    Extensions,
    Signer,
    headers,
    issue,
    jws,
    new_key,
    signer,
    subject,
    target,
    usage,
)

DATA = b'{"schemaVersion": 2}'
IMAGE = Subject(Digest.of(DATA), DATA)
TARGET = target(str(IMAGE.digest), len(DATA))
RELEASE = signer()
RELEASED = "notation certificate CN=release,O=Acme,ST=WA,C=US"
KINDS = pytest.mark.parametrize(("media_type", "make"), ENVELOPES.values(), ids=ENVELOPES)
Make = Callable[..., bytes]


def verify(
    media_type: str, envelope: bytes, trusted: str = RELEASE.root_pem, identity: str | None = None
) -> str:
    rule = NotationRule(trusted, identity)
    return NotationVerifier(rule, NOW).verify(NotationEnvelope(media_type, envelope), IMAGE)


@KINDS
def test_a_signature_that_leads_to_a_trusted_root_names_its_signer(media_type: str, make: Make) -> None:
    assert verify(media_type, make(RELEASE, TARGET)) == RELEASED


SIZES: dict[str, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
}


@KINDS
@pytest.mark.parametrize("new", SIZES.values(), ids=SIZES)
def test_each_kind_of_key_has_one_algorithm(
    media_type: str, make: Make, new: Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]
) -> None:
    by = signer(key=new())
    assert verify(media_type, make(by, TARGET), by.root_pem) == RELEASED


@KINDS
@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        ("C=US, ST=WA, O=Acme", True),
        ("x509.subject: C=US, ST=WA, O=Acme, CN=release", True),
        ("CN=release", True),
        ("*", True),
        ("C=US, ST=WA, O=Other", False),
        ("CN=release, OU=any", False),
        ("CN=releas", False),
    ],
)
def test_the_subject_must_have_the_attributes_of_the_identity(
    media_type: str, make: Make, identity: str, *, accepted: bool
) -> None:
    envelope = make(RELEASE, TARGET)
    if accepted:
        assert verify(media_type, envelope, identity=identity) == RELEASED
    else:
        with pytest.raises(SignatureError, match="by a certificate of another identity"):
            verify(media_type, envelope, identity=identity)


@pytest.mark.parametrize("identity", ["", "acme", "C=US, C=DE", "C=U"])
def test_an_identity_that_cannot_be_read_is_refused(identity: str) -> None:
    with pytest.raises(SignatureError, match="identity"):
        NotationVerifier(NotationRule(RELEASE.root_pem, identity), NOW)


def chained(*certificates: x509.Certificate, by: Signer = RELEASE) -> Signer:
    return Signer(by.key, certificates)


def deep(count: int) -> Signer:
    """Return a signer whose chain has this number of certificates."""
    key = new_key()
    chain = [issue("root", key, extensions=CA)]
    for number in range(count - 2):
        below = new_key()
        chain.insert(0, issue(f"ca {number}", below, (chain[0].subject, key), CA))
        key = below
    leaf = new_key()
    return Signer(leaf, (issue("release", leaf, (chain[0].subject, key)), *chain))


def self_signed(**options: Any) -> Signer:  # noqa: ANN401 (of `issue`)
    key = new_key()
    return Signer(key, (issue("release", key, **options),))


def purposed(*names: str) -> Signer:
    purposes = x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, name) for name in names])
    return signer(extensions=[LEAF[0], (purposes, False)])


def unreadable() -> Signer:
    """Return a signer whose issuer wrote a subject that is no UTF-8."""
    root_key, key = new_key(), new_key()
    root = issue("root", root_key, extensions=CA)
    made = issue("release", key, (root.subject, root_key))
    der = made.public_bytes(Encoding.DER)
    changed = made.tbs_certificate_bytes.replace(b"release", b"\xff\xff\xff\xff\xff\xff\xff")
    signature = b"\x00" + root_key.sign(changed, ec.ECDSA(hashes.SHA256()))
    algorithm = der[der.index(made.tbs_certificate_bytes) + len(changed) :][:12]
    parts = changed + algorithm + bytes([0x03, len(signature)]) + signature
    der = b"\x30\x82" + len(parts).to_bytes(2) + parts
    return Signer(key, (x509.load_der_x509_certificate(der), root))


UNREADABLE = unreadable()
CHAINS: dict[str, tuple[Callable[[], Signer], str | None]] = {
    "an intermediate": (lambda: deep(3), None),
    "the longest": (lambda: deep(8), None),
    "self-signed": (self_signed, None),
    "too long": (lambda: deep(9), "without a chain of 1 to 8 certificates"),
    "expired": (lambda: signer(until=NOW - timedelta(seconds=1)), "by a certificate that has expired"),
    "not valid yet": (lambda: signer(since=NOW + timedelta(hours=1)), "that is not valid yet"),
    "no key usage": (lambda: signer(extensions=LEAF[1:]), "without a key usage"),
    "key usage not critical": (lambda: signer(extensions=[(usage(), False)]), "is not critical"),
    "for encryption": (lambda: signer(extensions=[(usage(encrypts=True), True)]), "not for signatures"),
    "a CA": (lambda: signer(extensions=CA), "by a certificate that is not for signatures"),
    "for servers": (lambda: purposed("SERVER_AUTH"), "by a certificate that is not for signing code"),
    "for anything": (
        lambda: purposed("CODE_SIGNING", "ANY_EXTENDED_KEY_USAGE"),
        "by a certificate that is not for signing code",
    ),
    "weak key": (
        lambda: signer(key=rsa.generate_private_key(65537, 1024)),  # noqa: S505 (the case)
        "by a key of an unsupported kind or size",
    ),
    "another curve": (
        lambda: signer(key=ec.generate_private_key(ec.SECP256K1())),
        "by a key of an unsupported kind or size",
    ),
}


@KINDS
@pytest.mark.parametrize(("make_signer", "reason"), CHAINS.values(), ids=CHAINS)
def test_the_chain_must_be_made_for_signing_code(
    media_type: str, make: Make, make_signer: Callable[[], Signer], reason: str | None
) -> None:
    by = make_signer()
    if reason is None:
        assert verify(media_type, make(by, TARGET), by.root_pem) == RELEASED
    else:
        with pytest.raises(SignatureError, match=reason):
            verify(media_type, make(by, TARGET), by.root_pem)


ISSUERS: dict[str, tuple[Extensions, Extensions, str]] = {
    "not a CA": (CA, LEAF, "may not issue others"),
    "path too long": (
        [(x509.BasicConstraints(True, 0), True), CA[1]],
        CA,
        "longer than its certificates allow",
    ),
    "constraints not critical": (CA, [(CA[0][0], False), CA[1]], "of an issuer are not critical"),
}


@pytest.mark.parametrize(("of_root", "of_middle", "reason"), ISSUERS.values(), ids=ISSUERS)
def test_an_issuer_needs_the_right_to_issue(of_root: Extensions, of_middle: Extensions, reason: str) -> None:
    root_key, middle_key, leaf_key = new_key(), new_key(), new_key()
    root = issue("root", root_key, extensions=of_root)
    middle = issue("middle", middle_key, (root.subject, root_key), of_middle)
    leaf = issue("release", leaf_key, (middle.subject, middle_key))
    by = Signer(leaf_key, (leaf, middle, root))
    with pytest.raises(SignatureError, match=reason):
        verify("application/jose+json", jws(by, TARGET), by.root_pem)


@KINDS
@pytest.mark.parametrize("identity", [None, "CN=release"])
def test_a_subject_that_cannot_be_read_is_refused(media_type: str, make: Make, identity: str | None) -> None:
    with pytest.raises(SignatureError, match="by a certificate whose subject cannot be read"):
        verify(media_type, make(UNREADABLE, TARGET), UNREADABLE.root_pem, identity)


def test_a_trusted_certificate_whose_subject_cannot_be_read_is_refused() -> None:
    pem = UNREADABLE.chain[0].public_bytes(Encoding.PEM).decode()
    with pytest.raises(SignatureError, match="by a certificate whose subject cannot be read"):
        NotationVerifier(NotationRule(pem), NOW)


def test_a_chain_with_a_certificate_of_another_issuer_is_refused() -> None:
    other = signer("other")
    leaf = issue("release", RELEASE.key, (subject("root"), new_key()))
    for chain in ((leaf, RELEASE.chain[1]), (RELEASE.chain[0], other.chain[1], RELEASE.chain[1])):
        with pytest.raises(SignatureError, match="do not form a chain"):
            verify("application/jose+json", jws(chained(*chain), TARGET))


def test_a_hostile_intermediate_beside_a_trusted_root_is_refused() -> None:
    """Its extensions cannot be read: one occurs twice."""
    middle_key, leaf_key = new_key(), new_key()
    middle = issue("middle", middle_key, extensions=CA).public_bytes(Encoding.DER)
    other = middle.replace(b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x13")
    leaf = issue("release", leaf_key, (subject("middle"), middle_key))
    by = Signer(leaf_key, (leaf, RELEASE.chain[1]))
    chain = [leaf.public_bytes(Encoding.DER), other, RELEASE.ders[1]]
    with pytest.raises(SignatureError):
        verify("application/jose+json", jws(by, TARGET, chain=chain))


def test_a_weak_hash_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    root = issue("root", key, extensions=CA, hash_=hashes.SHA256())
    leaf_key = new_key()
    leaf = issue("release", leaf_key, (root.subject, key), hash_=hashes.SHA224())
    by = Signer(leaf_key, (leaf, root))
    with pytest.raises(SignatureError, match="weak hash"):
        verify("application/jose+json", jws(by, TARGET), by.root_pem)


SCHEME, EXPIRY = "io.cncf.notary.signingScheme", "io.cncf.notary.expiry"
ATTRIBUTES: dict[str, tuple[dict[str, Any], str | None]] = {
    "not expired": (
        {"attributes": headers(expiry=NOW + DAY), "critical": [SCHEME, EXPIRY]},
        None,
    ),
    "expired": (
        {"attributes": headers(expiry=NOW), "critical": [SCHEME, EXPIRY]},
        "which has expired",
    ),
    "expiry not critical": ({"attributes": headers(expiry=NOW + DAY)}, "required critical headers"),
    "scheme not critical": ({"critical": []}, "required critical headers"),
    "unknown critical header": (
        {"attributes": headers() | {"other": "x"}, "critical": [SCHEME, "other"]},
        "critical headers that are not supported",
    ),
    "critical header missing": ({"critical": [SCHEME, EXPIRY]}, "critical headers that are not supported"),
    "unknown other header": ({"attributes": headers() | {"other": "x"}}, None),
    "no scheme": ({"attributes": headers(signingScheme=None)}, "signing scheme that is not supported"),
    "signing authority": (
        {"attributes": headers(signingScheme="notary.x509.signingAuthority")},
        "signing scheme that is not supported",
    ),
    "no signing time": ({"attributes": headers(signingTime=None)}, "a time that is missing"),
    "signing time overflows": (
        {"attributes": headers(signingTime="0001-01-01T00:00:00+23:59")},
        "a time that is missing",
    ),
    "signing time is text": ({"attributes": headers(signingTime="yesterday")}, "a time that is missing"),
    "payload of another type": ({"payload_type": "text/plain"}, "payload of another type"),
    "algorithm of another key": ({"algorithm": "ES384"}, "an algorithm that its key may not"),
    "no chain": ({"chain": []}, "without a chain"),
    "chain of no certificate": ({"chain": [b"no certificate"]}, "that cannot be read"),
    "huge certificate": ({"chain": [bytes(1 << 15)]}, "too large"),
}


@KINDS
@pytest.mark.parametrize(("options", "reason"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_the_signed_attributes_are_required(
    media_type: str, make: Make, options: dict[str, Any], reason: str | None
) -> None:
    envelope = make(RELEASE, TARGET, **options)
    if reason is None:
        assert verify(media_type, envelope) == RELEASED
    else:
        with pytest.raises(SignatureError, match=reason):
            verify(media_type, envelope)


@KINDS
@pytest.mark.parametrize(
    "payload",
    [
        target(str(Digest.of(b"other")), len(DATA)),
        target(str(IMAGE.digest), len(DATA) + 1),
        b'{"targetArtifact": []}',
        b"{}",
    ],
)
def test_a_signature_of_another_image_is_refused(media_type: str, make: Make, payload: bytes) -> None:
    with pytest.raises(SignatureError, match="for another image"):
        verify(media_type, make(RELEASE, payload))


@KINDS
def test_a_signature_below_another_root_is_refused(media_type: str, make: Make) -> None:
    with pytest.raises(SignatureError, match="does not lead to a trusted one"):
        verify(media_type, make(signer(), TARGET))


@KINDS
def test_the_chain_of_another_signer_is_refused(media_type: str, make: Make) -> None:
    with pytest.raises(SignatureError, match="by another key, or changed since"):
        verify(media_type, make(signer(), TARGET, chain=RELEASE.ders))


def test_the_other_envelopes_media_type_is_refused() -> None:
    for media_type in ("application/cose", "application/json"):
        with pytest.raises(SignatureError):
            verify(media_type, jws(RELEASE, TARGET))


BOMBS = {
    "nested": b"\x81" * 100_000 + b"\x80",
    "long array": b"\x9b" + b"\xff" * 8,
    "long bytes": b"\x5b" + b"\x7f" * 8,
    "indefinite": b"\x9f" * 1000,
    "shared": cbor2.dumps(cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)])),
    "trailing": cbor2.dumps(cbor2.CBORTag(18, [b"", {}, b"", b""])) + b"\x00",
    "empty": b"",
    "untagged": cbor2.dumps([b"", {}, b"", b""]),
    "big number": cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_hostile_cbor_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureError):
        verify("application/cose", data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[" * 100_000, b'{"payload": 1, "protected": "e30"}'])
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureError):
        verify("application/jose+json", data)


GOOD = {name: (media_type, make(RELEASE, TARGET)) for name, (media_type, make) in ENVELOPES.items()}


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_an_envelope_with_a_changed_byte_is_never_read_as_another_one(name: str, data: st.DataObject) -> None:
    """A change is refused, or it is outside of what is signed, and the signer stays the same."""
    media_type, envelope = GOOD[name]
    changed = bytearray(envelope)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    try:
        named = verify(media_type, bytes(changed))
    except SignatureError:
        return
    assert named == RELEASED
    if media_type == "application/jose+json":
        before, after = json.loads(envelope), json.loads(changed)
        assert (before["payload"], before["protected"]) == (after["payload"], after["protected"])
