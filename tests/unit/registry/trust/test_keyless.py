"""Signatures by identity, against a local Sigstore instance and its trusted root."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from registry.errors import SignatureError
from registry.trust.keyless import KeylessVerifier
from registry.trust.policy import CosignKeylessRule, ProvenanceRule
from registry.trust.signatures import NotationEnvelope, SigstoreBundle, SimpleSigning, Subject
from registry.trust.verifiers import check_rule
from storage.digest import Digest
from tests.support.signing import PROVENANCE, bundle, encoded, new_key, statement
from tests.support.sigstore_instance import SIGNED_AT, SigstoreInstance

DATA = b'{"schemaVersion": 2}'
IMAGE = Subject(Digest.of(DATA), DATA)
STATEMENT = statement(str(IMAGE.digest))
ISSUER = "https://token.actions.example"
IDENTITY = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
INSTANCE = SigstoreInstance()
GOOD = INSTANCE.bundle(STATEMENT, IDENTITY, ISSUER)


def verify(
    made: dict[str, Any],
    *,
    identity: str = IDENTITY,
    issuer: str = ISSUER,
    root: dict[str, Any] | None = None,
) -> str:
    rule = CosignKeylessRule(issuer, identity, INSTANCE.trusted_root if root is None else root)
    return KeylessVerifier(rule).verify(SigstoreBundle(json.dumps(made).encode()), IMAGE)


def test_a_signature_of_the_identity_is_accepted_and_named() -> None:
    assert verify(GOOD) == f"cosign identity {IDENTITY} of {ISSUER}"
    by_mail = INSTANCE.bundle(STATEMENT, "release@acme.example", ISSUER)
    assert verify(by_mail, identity="*@acme.example") == f"cosign identity release@acme.example of {ISSUER}"


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        ("https://github.com/acme/*", "https://*.example"),
        ("*", "*"),
        (IDENTITY.replace("release", "relea??"), ISSUER),
    ],
)
def test_wildcards_match(identity: str, issuer: str) -> None:
    assert verify(GOOD, identity=identity, issuer=issuer) == f"cosign identity {IDENTITY} of {ISSUER}"


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        ("https://github.com/rival/*", ISSUER),
        ("github.com/acme/*", ISSUER),
        (IDENTITY, "https://token.actions.exampl"),
        (IDENTITY[:-1], ISSUER),
        ("", ISSUER),
    ],
)
def test_another_identity_is_refused(identity: str, issuer: str) -> None:
    with pytest.raises(SignatureError, match="by another identity"):
        verify(GOOD, identity=identity, issuer=issuer)


def without_log() -> dict[str, Any]:
    material = {"certificate": GOOD["verificationMaterial"]["certificate"], "tlogEntries": []}
    return GOOD | {"verificationMaterial": material}


def tampered(**changes: object) -> dict[str, Any]:
    return GOOD | {"dsseEnvelope": GOOD["dsseEnvelope"] | changes}


WRONG: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "another instance": (
        lambda: SigstoreInstance().bundle(STATEMENT, IDENTITY, ISSUER),
        "that Sigstore does not accept",
    ),
    "logged after the certificate expired": (
        lambda: INSTANCE.bundle(STATEMENT, IDENTITY, ISSUER, at=SIGNED_AT + timedelta(hours=1)),
        "that Sigstore does not accept",
    ),
    "certificate that was not logged": (
        lambda: INSTANCE.bundle(STATEMENT, IDENTITY, ISSUER, logged=False),
        "signed certificate timestamp",
    ),
    "not logged": (without_log, "that Sigstore does not accept"),
    "tampered payload": (
        lambda: tampered(payload=encoded(STATEMENT + b" ")),
        "that Sigstore does not accept",
    ),
    "tampered signature": (lambda: tampered(signatures=[{"sig": encoded(b"none")}]), "that Sigstore"),
    "another image": (
        lambda: INSTANCE.bundle(statement("sha256:" + "0" * 64), IDENTITY, ISSUER),
        "for another image",
    ),
    "attestation": (
        lambda: INSTANCE.bundle(statement(str(IMAGE.digest), PROVENANCE), IDENTITY, ISSUER),
        "which is an attestation",
    ),
    "by a key": (lambda: bundle(new_key(), STATEMENT), "by a key, not by a certificate"),
    "certificate of no type": (
        lambda: GOOD | {"verificationMaterial": {"certificate": 1}},
        "that Sigstore does not accept",
    ),
    "no material": (lambda: GOOD | {"verificationMaterial": []}, "that Sigstore does not accept"),
}


@pytest.mark.parametrize(("make", "reason"), WRONG.values(), ids=WRONG)
def test_a_bundle_that_is_not_valid_is_refused(make: Callable[[], dict[str, Any]], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        verify(make())


def test_other_signatures_are_of_another_kind() -> None:
    verifier = KeylessVerifier(CosignKeylessRule(ISSUER, IDENTITY, INSTANCE.trusted_root))
    for other in (SimpleSigning(b"", "", keyless=False), NotationEnvelope("application/cose", b"")):
        with pytest.raises(SignatureError, match="of another kind"):
            verifier.verify(other, IMAGE)
    with pytest.raises(SignatureError, match="sign with cosign 3"):
        verifier.verify(SimpleSigning(b"", "", keyless=True), IMAGE)


def test_a_wrong_trusted_root_accepts_nothing() -> None:
    for root in ({"mediaType": "text/plain"}, INSTANCE.trusted_root | {"tlogs": []}):
        with pytest.raises(SignatureError, match="trusted root"):
            verify(GOOD, root=root)


def test_a_trusted_root_is_checked_when_the_rule_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SIGNED_AT
    for rule in (CosignKeylessRule, partial(ProvenanceRule, "*", None, None)):
        check_rule(rule(ISSUER, IDENTITY, INSTANCE.trusted_root), now)
        check_rule(rule(ISSUER, IDENTITY), now)
        wrong = rule(ISSUER, IDENTITY, {"mediaType": "application/json"})
        with pytest.raises(SignatureError, match=r"trusted_root is not valid: use the content of"):
            check_rule(wrong, now)
        with monkeypatch.context() as without:
            without.setattr("registry.trust.keyless.find_spec", lambda _name: None)
            check_rule(wrong, now)  # cannot be checked there


def test_without_a_trusted_root_the_public_instance_is_trusted() -> None:
    verifier = KeylessVerifier(CosignKeylessRule(ISSUER, IDENTITY))
    with pytest.raises(SignatureError, match="that Sigstore does not accept"):
        verifier.verify(SigstoreBundle(json.dumps(GOOD).encode()), IMAGE)


def test_without_the_extra_nothing_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    root = INSTANCE.trusted_root | {"ctlogs": []}  # not loaded yet
    with pytest.raises(SignatureError, match=r"cannot verify without crisper-registry\[keyless\]"):
        verify(GOOD, root=root)
