"""Imports check signatures before they fetch layers: what is accepted and refused."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from registry.oci.platform import LINUX_AMD64, Platform
from registry.trust.policy import CosignKeylessRule, Mode, Policy, Require
from tests.integration.upstream.conftest import Shelf
from tests.support.distribution import (
    Image,
    digest_of,
    make_image,
    make_index,
)
from tests.support.signed_images import (
    GOOD,
    IMAGE,
    KEY,
    OTHER,
    PAYLOAD,
    bundled,
    by_keys,
    simple,
)
from tests.support.signing import (
    BUNDLE,
    PROVENANCE,
    PrivateKey,
    add_simple,
    bundle,
    encoded,
    listed,
    new_key,
    public_pem,
    referrer,
    sign,
    simple_payload,
    statement,
)
from tests.support.sigstore_instance import SigstoreInstance

ARM64 = Platform("linux", "arm64")
Made = Callable[[PrivateKey], dict[str, Image]]
FORMATS: dict[str, Made] = {
    "cosign 2": lambda key: add_simple(IMAGE.root, simple(key)),
    "cosign 3": lambda key: bundled(bundle(key, statement(IMAGE.root))),
    "message signature": lambda key: bundled(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {"signature": encoded(sign(key, IMAGE.root_bytes))},
        }
    ),
}


@pytest.mark.parametrize("made", FORMATS.values(), ids=FORMATS)
async def test_a_signature_by_a_trusted_key_is_accepted_and_named(shelf: Shelf, made: Made) -> None:
    key = new_key()
    await shelf.put(IMAGE, made(key))
    verdict = await shelf.verdict(by_keys(public_pem(new_key()), public_pem(key)))
    assert verdict is not None
    assert verdict.trusted
    assert len(verdict.signers) == 1
    assert verdict.sentence == f"signed by {verdict.signers[0]}"
    assert await shelf.stores(digest_of(b"a layer"))


@pytest.mark.parametrize("made", FORMATS.values(), ids=FORMATS)
async def test_a_signature_by_another_key_is_refused_before_a_layer(shelf: Shelf, made: Made) -> None:
    await shelf.put(IMAGE, made(new_key()))
    assert await shelf.refusal(by_keys(public_pem(new_key()))) == (
        "the image is not signed by any of acme's keys (1 signature found: 1 by another key, or changed "
        "since): sign it with one of them, or ask the operator to change the policy for *"
    )
    assert not await shelf.stores(digest_of(b"a layer"))


KINDS: dict[str, tuple[Callable[[], PrivateKey], hashes.HashAlgorithm]] = {
    "P-256": (new_key, hashes.SHA256()),
    "P-384 of cosign 2": (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
    "P-384 of cosign 3": (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
    "P-521": (lambda: ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
    "RSA": (lambda: rsa.generate_private_key(65537, 2048), hashes.SHA256()),
}


@pytest.mark.parametrize(("make", "hash_"), KINDS.values(), ids=KINDS)
async def test_each_kind_of_key_is_accepted(
    shelf: Shelf, make: Callable[[], PrivateKey], hash_: hashes.HashAlgorithm
) -> None:
    key, payload = make(), simple_payload(IMAGE.root)
    await shelf.put(IMAGE, add_simple(IMAGE.root, (payload, sign(key, payload, hash_))))
    verdict = await shelf.verdict(by_keys(public_pem(key)))
    assert verdict is not None
    assert verdict.trusted


ENVELOPE = GOOD["dsseEnvelope"]
REFUSED: dict[str, tuple[dict[str, Image] | None, str]] = {
    "missing": (None, "no signatures found)"),
    "of another image, cosign 2": (
        add_simple(IMAGE.root, simple(KEY, OTHER.root)),
        "1 for another image",
    ),
    "of another image, cosign 3": (bundled(bundle(KEY, statement(OTHER.root))), "1 for another image"),
    "tampered payload, cosign 2": (
        add_simple(IMAGE.root, (simple_payload(IMAGE.root) + b" ", simple(KEY)[1])),
        "1 by another key, or changed since",
    ),
    "tampered payload, cosign 3": (
        bundled(GOOD | {"dsseEnvelope": ENVELOPE | {"payload": encoded(PAYLOAD + b" ")}}),
        "1 by another key, or changed since",
    ),
    "tampered type": (
        bundled(GOOD | {"dsseEnvelope": ENVELOPE | {"payloadType": "text/plain"}}),
        "1 by another key, or changed since",
    ),
    "attestation": (
        bundled(bundle(KEY, statement(IMAGE.root, PROVENANCE))),
        "1 which is an attestation, not a signature of the image",
    ),
    "payload of another type": (
        add_simple(
            IMAGE.root,
            (changed := simple_payload(IMAGE.root, type="atomic"), sign(KEY, changed)),
        ),
        "1 with a payload of another type than cosign's",
    ),
    "truncated bundle": (
        bundled(json.dumps(GOOD).encode()[:-10]),
        "1 unreadable: the bundle is not valid JSON",
    ),
    "bundle with a key twice": (
        bundled(json.dumps(GOOD)[:-1].encode() + b', "dsseEnvelope": {}}'),
        "1 unreadable: the bundle is not valid JSON",
    ),
    "deep bundle": (bundled(b"[" * 100_000), "1 unreadable: the bundle is not valid JSON"),
    "two contents": (
        bundled(GOOD | {"messageSignature": {}}),
        "1 with a bundle that does not have exactly one content",
    ),
    "certificate": (
        bundled(GOOD | {"verificationMaterial": {"certificate": {"rawBytes": ""}}}),
        "1 by a certificate, not by a key",
    ),
    "two signatures in one envelope": (
        bundled(GOOD | {"dsseEnvelope": ENVELOPE | {"signatures": ENVELOPE["signatures"] * 2}}),
        "1 with an envelope that does not have exactly one signature",
    ),
    "huge": (bundled(b" " * ((256 << 10) + 1)), "1 larger than 256 KiB"),
    "too many": (
        add_simple(IMAGE.root, *[(f"{n}".encode(), b"") for n in range(33)]),
        "1 unreadable: the manifest has more than 32 layers",
    ),
}


@pytest.mark.parametrize(("artifacts", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_signature_that_is_not_valid_is_refused_with_the_reason(
    shelf: Shelf, artifacts: dict[str, Image] | None, reason: str
) -> None:
    await shelf.put(IMAGE, *([artifacts] if artifacts else []))
    assert reason in await shelf.refusal(by_keys(public_pem(KEY)))


async def test_at_most_32_signatures_are_checked(shelf: Shelf) -> None:
    forged = [
        referrer(IMAGE.root_bytes, BUNDLE, (BUNDLE, json.dumps({"n": number}).encode()))
        for number in range(33)
    ]
    valid = referrer(IMAGE.root_bytes, BUNDLE, (BUNDLE, json.dumps(GOOD).encode()))
    kinds = {each.root: BUNDLE for each in (*forged, valid)}
    await shelf.put(IMAGE, listed(IMAGE.root, kinds, *forged, valid))
    sentence = await shelf.refusal(by_keys(public_pem(KEY)))
    assert "34 signatures found: 32 with a bundle that does not have exactly one content" in sentence
    assert "; 2 not checked, after the first 32)" in sentence


async def test_two_signers_are_found_where_both_signed_the_same_payload(shelf: Shelf) -> None:
    first, second = new_key(), new_key()
    keys = public_pem(first), public_pem(second)
    await shelf.put(IMAGE, add_simple(IMAGE.root, simple(first), simple(second)))
    verdict = await shelf.verdict(by_keys(*keys, require=Require.ALL))
    assert verdict is not None
    assert len(verdict.signers) == 2
    sentence = await shelf.refusal(by_keys(*keys, public_pem(new_key()), require=Require.ALL))
    assert (
        "the image is not signed by all of acme's keys (2 signatures found; missing: cosign key" in sentence
    )


async def test_an_index_is_trusted_by_its_own_signature_or_by_those_of_all_its_imported_manifests(
    shelf: Shelf,
) -> None:
    amd64, arm64 = IMAGE, make_image([b"another layer"], architecture="arm64")
    index = make_index({"linux/amd64": amd64, "linux/arm64": arm64})
    policy = by_keys(public_pem(KEY))
    shelf.bench.platforms = (LINUX_AMD64, ARM64)
    of_amd64 = add_simple(amd64.root, simple(KEY, amd64.root))
    of_arm64 = add_simple(arm64.root, simple(KEY, arm64.root))
    await shelf.put(index, of_amd64)
    assert "1 signature found" in await shelf.refusal(policy)
    shelf.bench.platforms = (LINUX_AMD64,)
    assert (await shelf.verdict(policy)) is not None
    shelf.bench.platforms = (LINUX_AMD64, ARM64)
    await shelf.put(index, of_arm64)
    assert (await shelf.verdict(policy)) is not None


async def test_an_index_signed_alone_is_trusted_with_all_its_platforms(shelf: Shelf) -> None:
    index = make_index({"linux/amd64": IMAGE, "linux/arm64": make_image([b"arm"], architecture="arm64")})
    shelf.bench.platforms = (LINUX_AMD64, ARM64)
    await shelf.put(index, bundled(bundle(KEY, statement(index.root)), index))
    verdict = await shelf.verdict(by_keys(public_pem(KEY)))
    assert verdict is not None
    assert verdict.trusted


async def test_warn_imports_the_image_and_keeps_the_verdict(shelf: Shelf) -> None:
    await shelf.put(IMAGE)
    verdict = await shelf.verdict(by_keys(public_pem(KEY), mode=Mode.WARN))
    assert verdict is not None
    assert not verdict.trusted
    assert "no signatures found" in verdict.sentence
    assert await shelf.stores(digest_of(b"a layer"))


async def test_the_first_policy_that_matches_decides(shelf: Shelf) -> None:
    await shelf.put(IMAGE)
    nobody = Policy("*/acme/*", Mode.ENFORCE, Require.ANY, ())
    warn = by_keys(public_pem(KEY), mode=Mode.WARN)
    assert "acme's policy for */acme/* accepts no image" in await shelf.refusal(nobody, warn)
    verdict = await shelf.verdict(replace(nobody, pattern="other/*"), warn)
    assert verdict is not None
    assert verdict.mode is Mode.WARN


async def test_a_policy_with_a_damaged_key_imports_nothing(shelf: Shelf) -> None:
    await shelf.put(IMAGE, FORMATS["cosign 2"](KEY))
    assert "acme's policy for * cannot be used" in await shelf.refusal(by_keys("no key", public_pem(KEY)))


async def test_a_keyless_signature_is_accepted_by_its_identity(shelf: Shelf) -> None:
    instance, issuer = SigstoreInstance(), "https://accounts.example"
    made = instance.bundle(statement(IMAGE.root), "release@acme.example", issuer)
    await shelf.put(IMAGE, bundled(made))

    def trusting(identity: str) -> Policy:
        rule = CosignKeylessRule(issuer, identity, instance.trusted_root)
        return Policy("*", Mode.ENFORCE, Require.ANY, (rule,))

    verdict = await shelf.verdict(trusting("*@acme.example"))
    assert verdict is not None
    assert verdict.signers == (f"cosign identity release@acme.example of {issuer}",)
    sentence = await shelf.refusal(trusting("*@rival.example"))
    assert f"1 by another identity (release@acme.example of {issuer})" in sentence
    assert "1 by a certificate, not by a key" in await shelf.refusal(by_keys(public_pem(KEY)))
