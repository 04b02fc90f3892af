"""Imports check signatures before they fetch layers: what is accepted, refused and requested."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from auth.ports import Clock
from registry.catalog.engine.database import SystemClock
from registry.errors import PullFailedError, UpstreamUnavailableError
from registry.imports.verification import ImageVerifier
from registry.oci.platform import LINUX_AMD64, Platform
from registry.trust.policy import CosignKeylessRule, CosignKeyRule, Mode, NotationRule, Policy, Require
from registry.trust.verdict import Verdict
from tests.integration.upstream.conftest import Bench
from tests.support.built_programs import notation_signer
from tests.support.distribution import (
    OCI_INDEX,
    Image,
    digest_of,
    docker_registry,
    make_image,
    make_index,
    push,
    serve,
)
from tests.support.notary import ALWAYS, Signer, signer, target
from tests.support.signing import (
    BUNDLE,
    NOTATION,
    PROVENANCE,
    Cosign,
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
from tests.support.upstream_faults import FaultyUpstream, status

ARM64 = Platform("linux", "arm64")


@asynccontextmanager
async def serve_all(upstream: FaultyUpstream) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with serve(app) as host:
        yield host


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC)


@dataclass
class MemoryPolicies:
    policies: Sequence[Policy] = ()
    asked: list[str] = field(default_factory=list)

    async def of(self, organization: str) -> Sequence[Policy]:
        self.asked.append(organization)
        return self.policies


def by_keys(*keys: str, require: Require = Require.ANY, mode: Mode = Mode.ENFORCE) -> Policy:
    return Policy("*", mode, require, tuple(map(CosignKeyRule, keys)))


@dataclass
class Shelf:
    """A registry with signed images, and imports from it by a policy."""

    host: str
    bench: Bench
    clock: Clock = field(default_factory=FixedClock)

    async def put(self, image: Image, *tagged: Mapping[str, Image]) -> None:
        await push(self.host, "acme/app", "v1", image, {})
        for tag, artifact in ((tag, artifact) for each in tagged for tag, artifact in each.items()):
            await push(self.host, "acme/app", tag, artifact, {})

    async def verdict(self, *policies: Policy) -> Verdict | None:
        self.bench.verifier = ImageVerifier(MemoryPolicies(policies), self.clock)
        return (await self.bench.run(f"{self.host}/acme/app:v1")).verdict

    async def refusal(self, *policies: Policy) -> str:
        with pytest.raises(PullFailedError) as caught:
            await self.verdict(*policies)
        return caught.value.sentence

    async def stores(self, digest: str) -> bool:
        try:
            await self.bench.read(digest)
        except Exception:  # noqa: BLE001 - whatever says that it is not there
            return False
        return True


@pytest.fixture
async def shelf(bench: Bench, tmp_path: Path) -> AsyncIterator[Shelf]:
    folder = tmp_path / "registry"
    folder.mkdir()
    async with docker_registry(folder) as host:
        yield Shelf(host, bench)


IMAGE = make_image([b"a layer"])
OTHER = make_image([b"another layer"])


def simple(key: PrivateKey, digest: str = IMAGE.root) -> tuple[bytes, bytes]:
    payload = simple_payload(digest)
    return payload, sign(key, payload)


def bundled(content: Mapping[str, Any] | bytes, of: Image = IMAGE) -> dict[str, Image]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    artifact = referrer(of.root_bytes, BUNDLE, (BUNDLE, data))
    return listed(of.root, {artifact.root: BUNDLE}, artifact)


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


KEY = new_key()
PAYLOAD = statement(IMAGE.root)
GOOD = bundle(KEY, PAYLOAD)
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


async def imported_from(upstream: FaultyUpstream, bench: Bench, *policies: Policy) -> list[str]:
    """Import an image, and return the paths that were requested before its layer."""
    upstream.add(IMAGE)
    bench.verifier = ImageVerifier(MemoryPolicies(policies), FixedClock())
    await bench.run(f"{upstream.host}/acme/app:1")
    paths = [f"{seen.method} {seen.path.removeprefix('/v2/acme/app/')}" for seen in upstream.seen]
    return paths[: next(place for place, path in enumerate(paths) if digest_of(b"a layer") in path)]


async def test_without_a_policy_for_the_image_there_is_no_further_request(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    policy = by_keys(public_pem(KEY))
    with_other = await imported_from(upstream, bench, replace(policy, pattern="ghcr.io/*"))
    bench.verifier = None
    assert not [path for path in with_other if IMAGE.root.replace(":", "-") in path or "referrers" in path]
    assert len(with_other) == 2  # the manifest, its config


async def test_a_policy_costs_the_requests_for_the_signatures_only(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    found = await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    [payload] = [digest for digest in signature.blobs if signature.blobs[digest] == simple(KEY)[0]]
    assert found[2:] == [f"HEAD manifests/{tag}", f"GET manifests/{tag}", f"GET blobs/{payload}"]


async def test_an_image_without_signatures_costs_three_requests(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    with pytest.raises(PullFailedError, match="no signatures found"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    tag = IMAGE.root.replace(":", "-")
    paths = [seen.path.removeprefix("/v2/acme/app/") for seen in upstream.seen]
    assert paths[2:] == [f"manifests/{tag}.sig", f"referrers/{IMAGE.root}", f"manifests/{tag}"]


async def test_of_a_long_list_of_referrers_without_types_only_32_are_fetched(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    others = [referrer(IMAGE.root_bytes, f"application/vnd.of.{n}", ("text/plain", b"-")) for n in range(100)]
    [index] = listed(IMAGE.root, {}, *others).values()
    upstream.add(index, IMAGE.root.replace(":", "-"))
    with pytest.raises(PullFailedError, match="68 not checked, after the first 32"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    assert sum(upstream.count(other.root) for other in others) == 32


async def test_a_signature_is_found_by_the_referrers_api(bench: Bench, upstream: FaultyUpstream) -> None:
    [index] = bundled(GOOD).values()
    upstream.add(index, "listed")
    listing = index.root_bytes

    upstream.add(IMAGE)
    read_manifest = upstream.handle

    async def handle(request: web.Request) -> web.StreamResponse:
        if "/referrers/" in request.path:
            return web.Response(body=listing, content_type=OCI_INDEX)
        return await read_manifest(request)

    upstream.handle = handle  # type: ignore[method-assign]
    async with serve_all(upstream) as host:
        bench.verifier = ImageVerifier(MemoryPolicies([by_keys(public_pem(KEY))]), FixedClock())
        verdict = (await bench.run(f"{host}/acme/app:1")).verdict
    assert verdict is not None
    assert verdict.trusted


async def test_a_registry_that_fails_is_no_registry_without_signatures(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    upstream.fail(tag, status(503), status(502))
    await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    upstream.always(tag, status(503))
    with pytest.raises(UpstreamUnavailableError, match="answers 503"):
        await bench.run(f"{upstream.host}/acme/app:1")


async def test_a_registry_that_refuses_a_signature_has_none(bench: Bench, upstream: FaultyUpstream) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    upstream.always(tag, status(400))
    with pytest.raises(PullFailedError, match="no signatures found"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))


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


ENVELOPES = pytest.mark.parametrize("media_type", ["application/jose+json", "application/cose"])


def signed_by_notation(by: Signer, media_type: str, folder: Path, expiry_s: int = 0) -> dict[str, Image]:
    """Return what the Notary Project's own library signs."""
    for name, pem in (("key", by.key_pem), ("chain", by.chain_pem)):
        (folder / name).write_bytes(pem)
    made = subprocess.run(
        [notation_signer(), media_type, folder / "key", folder / "chain", str(expiry_s)],
        input=target(IMAGE.root, len(IMAGE.root_bytes)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=10,
    ).stdout
    artifact = referrer(IMAGE.root_bytes, NOTATION, (media_type, made))
    return listed(IMAGE.root, {artifact.root: NOTATION}, artifact)


@pytest.mark.timeout(600)  # builds the signer, if no test did before
@ENVELOPES
@pytest.mark.parametrize("expiry_s", [0, 3600])
async def test_a_signature_of_the_notary_projects_library_is_accepted(
    shelf: Shelf, tmp_path: Path, media_type: str, expiry_s: int
) -> None:
    ours = signer(**ALWAYS)
    await shelf.put(IMAGE, signed_by_notation(ours, media_type, tmp_path, expiry_s))
    rule = NotationRule(ours.root_pem, "C=US, ST=WA, O=Acme")
    shelf.clock = SystemClock()
    verdict = await shelf.verdict(Policy("*", Mode.ENFORCE, Require.ANY, (rule,)))
    assert verdict is not None
    assert verdict.signers == ("notation certificate CN=release,O=Acme,ST=WA,C=US",)
    other = Policy("*", Mode.ENFORCE, Require.ANY, (NotationRule(signer(**ALWAYS).root_pem),))
    sentence = await shelf.refusal(other)
    assert "is not signed by any of acme's trusted signers (1 signature found: 1 by a certificate" in sentence
    by_key = await shelf.refusal(by_keys(public_pem(KEY)))
    assert "(no signatures found)" in by_key


@pytest.fixture
def cosign(request: pytest.FixtureRequest, tmp_path: Path) -> Cosign:
    return Cosign(request.param, tmp_path)


PROGRAMS = pytest.mark.parametrize("cosign", [2, 3], indirect=True, ids=["cosign 2", "cosign 3"])


@pytest.mark.full
@pytest.mark.timeout(3600)  # builds cosign, if no test did before
@PROGRAMS
async def test_the_verdicts_agree_with_those_of_the_program(shelf: Shelf, cosign: Cosign) -> None:
    keys = {name: await asyncio.to_thread(cosign.key, name) for name in ("ours", "theirs", "second")}
    wrong: list[str] = []

    async def check(step: str, policy: Policy, *, trusted: bool, by: Sequence[str]) -> None:
        verdict = await shelf.verdict(replace(policy, mode=Mode.WARN))
        assert verdict is not None
        reference = f"{shelf.host}/acme/app:v1"
        agreed = [await asyncio.to_thread(cosign.verifies, name, reference) for name in by]
        if verdict.trusted is not trusted or (agreed and all(agreed) is not trusted):
            wrong.append(f"{step}: ours {verdict.sentence}, the program {agreed}")

    ours = by_keys(keys["ours"])
    both = by_keys(keys["ours"], keys["second"], require=Require.ALL)
    await shelf.put(IMAGE)
    reference = f"{shelf.host}/acme/app@{IMAGE.root}"
    await check("unsigned", ours, trusted=False, by=["ours"])
    await asyncio.to_thread(cosign.attest, "ours", reference)
    # cosign 3.1 accepts any attestation as a signature; ours does not.
    await check("attested", ours, trusted=False, by=["ours"] if cosign.version == 2 else [])
    await asyncio.to_thread(cosign.sign, "theirs", reference)
    if cosign.version == 2:
        await asyncio.to_thread(cosign.refer, "theirs", reference)
    await check("by another key", ours, trusted=False, by=["ours"] if cosign.version == 2 else [])
    await asyncio.to_thread(cosign.sign, "ours", reference)
    await check("signed", ours, trusted=True, by=["ours"])
    await check("one of two", both, trusted=False, by=["ours", "second"])
    await asyncio.to_thread(cosign.sign, "second", reference)
    await check("two of two", both, trusted=True, by=["ours", "second"])
    index = make_index({"linux/amd64": OTHER})
    await shelf.put(index)
    await check("unsigned index", ours, trusted=False, by=["ours"])
    await asyncio.to_thread(cosign.sign, "ours", f"{shelf.host}/acme/app@{index.root}")
    await check("index", ours, trusted=True, by=["ours"])
    if cosign.version == 2:
        third = make_image([b"a third layer"])
        await shelf.put(third)
        await asyncio.to_thread(cosign.refer, "ours", f"{shelf.host}/acme/app@{third.root}")
        await check("by a referrer", ours, trusted=True, by=[])
        await check("by a referrer of another key", by_keys(keys["second"]), trusted=False, by=[])
    assert wrong == []
