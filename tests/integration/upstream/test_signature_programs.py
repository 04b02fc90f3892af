"""Imports and the programs that sign agree about signatures."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from registry.catalog.engine.database import SystemClock
from registry.trust.facts import open_sbom
from registry.trust.policy import Mode, NotationRule, Policy, ProvenanceRule, Require
from registry.trust.provenance import Provenance
from tests.integration.upstream.conftest import Shelf
from tests.support.built_programs import notation_signer
from tests.support.distribution import (
    Image,
    make_image,
    make_index,
)
from tests.support.notary import ALWAYS, Signer, signer, target
from tests.support.signed_images import (
    IMAGE,
    KEY,
    OTHER,
    by_keys,
)
from tests.support.signing import (
    NOTATION,
    Cosign,
    listed,
    public_pem,
    referrer,
)

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


@pytest.mark.full
@pytest.mark.timeout(3600)  # builds cosign, if no test did before
@PROGRAMS
@pytest.mark.parametrize("kind", ["slsaprovenance1", "slsaprovenance"])
async def test_provenance_that_the_program_attests_is_accepted(
    shelf: Shelf, cosign: Cosign, kind: str
) -> None:
    keys = {name: await asyncio.to_thread(cosign.key, name) for name in ("ours", "theirs")}
    builder, source = "https://builder.example/v1", "https://github.com/acme/app"
    if kind == "slsaprovenance1":
        predicate: dict[str, object] = {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {"repository": source}},
            },
            "runDetails": {"builder": {"id": builder}},
        }
    else:
        origin = {"uri": f"git+{source}@refs/heads/main"}
        predicate = {"builder": {"id": builder}, "invocation": {"configSource": origin}, "buildType": "any"}

    def requiring(key: str, by: str = builder, of: str = "https://github.com/acme/*") -> Policy:
        return Policy("*", Mode.ENFORCE, Require.ANY, (ProvenanceRule(by, of, keys[key]),))

    await shelf.put(IMAGE)
    reference = f"{shelf.host}/acme/app@{IMAGE.root}"
    assert "(no signatures or attestations found)" in await shelf.refusal(requiring("ours"))
    await asyncio.to_thread(cosign.sign, "ours", reference)
    await asyncio.to_thread(cosign.attest, "ours", reference)
    assert "has no provenance" in await shelf.refusal(requiring("ours"))
    await asyncio.to_thread(cosign.attest, "ours", reference, predicate, kind)
    verdict = await shelf.verdict(requiring("ours"))
    assert verdict is not None
    assert verdict.sentence.startswith(f"built by {builder} from {source} (attested by cosign key sha256:")
    assert "by another key" in await shelf.refusal(requiring("theirs"))
    assert "by another builder" in await shelf.refusal(requiring("ours", by="https://other.example"))
    assert "from another source" in await shelf.refusal(requiring("ours", of="https://github.com/rival/*"))


@pytest.mark.full
@pytest.mark.timeout(3600)  # builds cosign, if no test did before
@PROGRAMS
async def test_what_the_program_attests_and_attaches_is_stated_about_the_image(
    shelf: Shelf, cosign: Cosign
) -> None:
    spdx = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "app"}
    cyclonedx = {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []}
    origin = {"uri": "git+https://github.com/acme/app@refs/heads/main"}
    build = {"builder": {"id": "https://b.example"}, "buildType": "any"}
    provenance = {**build, "invocation": {"configSource": origin}}
    await shelf.put(IMAGE)
    await asyncio.to_thread(cosign.key, "ours")
    reference = f"{shelf.host}/acme/app@{IMAGE.root}"
    predicates = {"spdxjson": spdx, "cyclonedx": cyclonedx, "slsaprovenance": provenance}
    for kind, predicate in predicates.items():
        await asyncio.to_thread(cosign.attest, "ours", reference, predicate, kind)
    if cosign.version == 2:
        await asyncio.to_thread(cosign.attach_sbom, json.dumps(spdx), "spdx", reference)
    facts = (await shelf.bench.run(f"{shelf.host}/acme/app:v1")).facts
    assert facts.provenance == Provenance("https://b.example", "https://github.com/acme/app")
    opened = [
        (sbom.attested, json.loads(open_sbom(await shelf.bench.read(str(sbom.digest)), sbom)[0]))
        for sbom in facts.sboms
    ]
    expected = [(True, spdx), (True, cyclonedx), *([(False, spdx)] if cosign.version == 2 else [])]
    assert len(opened) == len(expected)
    assert all(each in opened for each in expected)
