"""Signatures that the cosign programs made, and hostile variants of what registries may hold."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DocumentError, SignatureError
from registry.trust.cosign import verify_bundle, verify_simple_signing
from registry.trust.keys import fingerprint, load_public_key
from registry.trust.signatures import (
    SigstoreBundle,
    SimpleSigning,
    Subject,
    Wanted,
    may_be_signature,
    simple_signing_entries,
)
from storage.digest import Digest
from tests.support.signing import BUNDLE, NOTATION, PROVENANCE, SIGN, bundle, new_key, public_pem, statement

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "trust" / "cosign.json").read_text())
NAMED = pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"cosign {each['cosign']}, {each['kind']}" for each in VECTORS]
)
DATA = b'{"schemaVersion": 2}'
IMAGE = Subject(Digest.of(DATA), DATA)


def verify(
    vector: dict[str, Any], *, key: str = "", subject: Subject | None = None, blob: bytes = b""
) -> None:
    manifest = base64.b64decode(vector["manifest"])
    subject = subject or Subject(Digest.of(manifest), manifest)
    loaded = load_public_key(key or vector["key"])
    blob = blob or base64.b64decode(vector["blob"])
    if vector["cosign"] == 2:
        [entry] = simple_signing_entries(base64.b64decode(vector["signature"]), None)
        verify_simple_signing(SimpleSigning(blob, entry.signature, entry.keyless), loaded, subject)
    else:
        verify_bundle(SigstoreBundle(blob), loaded, subject)


@NAMED
def test_signatures_of_the_programs_are_valid_for_their_key_and_image_only(vector: dict[str, Any]) -> None:
    verify(vector)
    with pytest.raises(SignatureError, match="for another image"):
        verify(vector, subject=IMAGE)
    for other in (public_pem(new_key()), *(each["key"] for each in VECTORS if each is not vector)):
        if other != vector["key"]:
            with pytest.raises(SignatureError, match="by another key, or changed since"):
                verify(vector, key=other)


@NAMED
@given(data=st.data())
def test_a_changed_byte_never_makes_a_signature_valid_for_another_image(
    vector: dict[str, Any], data: st.DataObject
) -> None:
    blob = bytearray(base64.b64decode(vector["blob"]))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] = data.draw(st.integers(0, 255))
    with pytest.raises(SignatureError):
        verify(vector, blob=bytes(blob), subject=IMAGE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.sampled_from(["mediaType", "verificationMaterial", "dsseEnvelope"]), max_size=2),
    st.lists(st.sampled_from(["payload", "payloadType", "signatures", "publicKey"]), max_size=2),
    JSON,
)
def test_bundles_of_any_shape_are_refused_as_signatures(
    outer: list[str], inner: list[str], value: object
) -> None:
    key = new_key()
    made: dict[str, Any] = bundle(key, statement("sha256:" + "0" * 64))
    for name in outer:
        made[name] = json.loads(json.dumps(value))
    for name in inner:
        for part in ("dsseEnvelope", "verificationMaterial"):
            if isinstance(made[part], dict):
                made[part][name] = value
    with pytest.raises(SignatureError):
        verify_bundle(SigstoreBundle(json.dumps(made).encode()), key.public_key(), IMAGE)


@given(st.sampled_from(["_type", "subject", "predicateType"]), JSON)
def test_statements_of_any_shape_are_refused_as_signatures(name: str, value: object) -> None:
    key = new_key()
    payload = json.loads(statement(str(IMAGE.digest))) | {name: value}
    made = bundle(key, json.dumps(payload).encode())
    with pytest.raises(SignatureError):
        verify_bundle(SigstoreBundle(json.dumps(made).encode()), key.public_key(), IMAGE)


@given(JSON)
def test_payloads_of_any_shape_are_refused_as_signatures(value: object) -> None:
    with pytest.raises(SignatureError):
        verify_simple_signing(
            SimpleSigning(json.dumps(value).encode(), "AA==", keyless=False), new_key().public_key(), IMAGE
        )


@given(JSON)
def test_annotations_of_any_shape_are_no_signatures(value: object) -> None:
    blob = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "size": 2}
    described = blob | {"digest": str(Digest.of(b"{}")), "annotations": value}
    manifest = {"schemaVersion": 2, "config": described, "layers": [described]}
    data = json.dumps(manifest).encode()
    try:
        assert list(simple_signing_entries(data, None)) == []
    except DocumentError:
        return


COSIGN, NOTARY, BUILDS = Wanted(cosign=True), Wanted(notation=True), Wanted(provenance=True)
ALL = Wanted(cosign=True, notation=True, provenance=True)


def bundle_of(predicate: object) -> dict[str, Any]:
    return {"artifactType": BUNDLE, "annotations": {"dev.sigstore.bundle.predicateType": predicate}}


@pytest.mark.parametrize(
    ("entry", "wanted", "fetched"),
    [
        ({"artifactType": BUNDLE}, COSIGN, True),
        ({"artifactType": BUNDLE}, NOTARY, False),
        ({"artifactType": BUNDLE}, BUILDS, True),
        ({"artifactType": NOTATION}, COSIGN, False),
        ({"artifactType": NOTATION}, NOTARY, True),
        ({"artifactType": NOTATION}, BUILDS, False),
        ({}, COSIGN, True),
        ({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}, COSIGN, True),
        ({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}, NOTARY, False),
        ({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}, BUILDS, False),
        ({"artifactType": "application/spdx+json"}, ALL, False),
        (bundle_of(SIGN), ALL, True),
        (bundle_of(SIGN), BUILDS, False),
        (bundle_of(PROVENANCE), Wanted(cosign=True, notation=True), False),
        (bundle_of(PROVENANCE), BUILDS, True),
        (bundle_of("https://slsa.dev/provenance/v0.2"), BUILDS, True),
        (bundle_of("https://spdx.dev/Document"), ALL, False),
        (bundle_of({}), ALL, False),
        ({"artifactType": [BUNDLE], "annotations": 1}, ALL, False),
    ],
)
def test_only_referrers_that_may_be_signatures_are_fetched(
    entry: dict[str, Any], wanted: Wanted, *, fetched: bool
) -> None:
    assert may_be_signature(entry, wanted) is fetched


def test_a_keys_name_does_not_depend_on_how_its_file_is_written() -> None:
    pem = public_pem(new_key())
    assert fingerprint(load_public_key(pem)) == fingerprint(load_public_key(f"\n{pem}\n\n"))


def test_what_is_no_key_is_refused() -> None:
    small = (Path(__file__).parents[3] / "vectors" / "trust" / "rsa-1024.pub").read_text()
    ed25519 = Ed25519PrivateKey.generate().public_key()
    other = ed25519.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (other, "", "key", "ä", public_pem(new_key())[:60], "-" * 20_000, small):
        with pytest.raises(SignatureError):
            load_public_key(text)
