"""Which provenance a rule accepts."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import SignatureError
from registry.trust.judge import Judge
from registry.trust.policy import CosignKeyRule, Mode, Policy, ProvenanceRule, Require, Rule
from registry.trust.provenance import Provenance, read_provenance
from registry.trust.signatures import Attestation, Signature, SigstoreBundle, Subject, provenance_entries
from registry.trust.statements import Statement
from registry.trust.verdict import Verdict
from registry.trust.verifiers import check_rule
from storage.digest import Digest
from tests.support.distribution import OCI_MANIFEST, descriptor
from tests.support.signing import PROVENANCE, bundle, new_key, public_pem, statement
from tests.support.sigstore_instance import SigstoreInstance

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DATA = b'{"schemaVersion": 2}'
IMAGE = Subject(Digest.of(DATA), DATA)
OTHER = "sha256:" + "0" * 64
KEY, INSTANCE, ISSUER = new_key(), SigstoreInstance(), "https://token.actions.example"
PEM, IDENTITY = public_pem(KEY), "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
V0_2 = "https://slsa.dev/provenance/v0.2"
BUILDER = "https://github.com/slsa-framework/builder.yml@refs/tags/v2"
SOURCE = "https://github.com/acme/app"


def v1(parameters: object = None, builder: object = BUILDER) -> dict[str, Any]:
    given = (
        {"workflow": {"ref": "refs/heads/main", "repository": SOURCE}} if parameters is None else parameters
    )
    return {
        "buildDefinition": {"externalParameters": given, "resolvedDependencies": [{"uri": SOURCE}]},
        "runDetails": {"builder": {"id": builder}},
    }


def v0_2(uri: object = f"git+{SOURCE}@refs/heads/main") -> dict[str, Any]:
    return {"builder": {"id": BUILDER}, "invocation": {"configSource": {"uri": uri}}}


def stated(predicate: object, kind: str = PROVENANCE, of: str = str(IMAGE.digest)) -> bytes:
    return json.dumps(json.loads(statement(of, kind)) | {"predicate": predicate}).encode()


def bundled(payload: bytes) -> SigstoreBundle:
    return SigstoreBundle(json.dumps(bundle(KEY, payload)).encode())


def attested(payload: bytes) -> Attestation:
    return Attestation(json.dumps(bundle(KEY, payload)["dsseEnvelope"]).encode(), keyless=False)


def judged(signature: Signature, *rules: Rule, require: Require = Require.ANY) -> Verdict:
    judge = Judge(Policy("*", Mode.ENFORCE, require, rules), IMAGE.digest, [], NOW)
    judge.consider(IMAGE, [signature])
    return judge.verdict("acme")


GOOD = stated(v1())
BY_KEY = ProvenanceRule(BUILDER, SOURCE, PEM)
TABLE: dict[str, tuple[Signature, ProvenanceRule, str | None]] = {
    "cosign 3": (bundled(GOOD), BY_KEY, None),
    "cosign 2": (attested(GOOD), BY_KEY, None),
    "v0.2": (bundled(stated(v0_2(), V0_2)), BY_KEY, None),
    "patterns": (
        bundled(GOOD),
        ProvenanceRule("https://github.com/*", "https://github.com/acme/*", PEM),
        None,
    ),
    "any source": (bundled(stated(v1({}))), ProvenanceRule(BUILDER, None, PEM), None),
    "another builder": (
        bundled(GOOD),
        ProvenanceRule("https://rival.example", None, PEM),
        "by another builder",
    ),
    "another source": (
        bundled(stated(v1({"source": {"uri": "https://github.com/acme-evil/app"}}))),
        BY_KEY,
        f"from another source ({BUILDER} from https://github.com/acme-evil/app)",
    ),
    "source among the dependencies only": (
        bundled(stated(v1({}))),
        BY_KEY,
        "from a source that is not named)",
    ),
    "source with controls": (bundled(stated(v1({"source": SOURCE + "\n"}))), BY_KEY, "is not named"),
    "long source": (bundled(stated(v1({"source": SOURCE + "a" * 512}))), BY_KEY, "is not named"),
    "no builder": (bundled(stated(v1(builder=None))), BY_KEY, "that does not name the builder"),
    "long builder": (bundled(stated(v1(builder="b" * 513))), BY_KEY, "that does not name the builder"),
    "fields of v0.2 in v1": (bundled(stated(v0_2())), BY_KEY, "that does not name the builder"),
    "another image": (bundled(stated(v1(), of=OTHER)), BY_KEY, "1 for another image"),
    "another image, cosign 2": (attested(stated(v1(), of=OTHER)), BY_KEY, "1 for another image"),
    "another predicate": (
        bundled(stated(v1(), "https://spdx.dev/Document")),
        BY_KEY,
        "1 which is not provenance of SLSA",
    ),
    "another key": (
        attested(GOOD),
        ProvenanceRule(BUILDER, SOURCE, public_pem(new_key())),
        "1 by another key, or changed since",
    ),
    "tampered envelope": (
        Attestation(attested(GOOD).data.replace(b"vnd.in-toto", b"vnd.in_toto"), keyless=False),
        BY_KEY,
        "1 by another key, or changed since",
    ),
    "truncated envelope": (
        Attestation(b"{", keyless=False),
        BY_KEY,
        "1 unreadable: the envelope is not valid",
    ),
    "message signature": (
        SigstoreBundle(
            json.dumps(
                {
                    "verificationMaterial": {"publicKey": {}},
                    "messageSignature": {
                        "signature": bundle(KEY, GOOD)["dsseEnvelope"]["signatures"][0]["sig"]
                    },
                }
            ).encode()
        ),
        BY_KEY,
        "1 by another key, or changed since",
    ),
    "identity": (
        SigstoreBundle(json.dumps(INSTANCE.bundle(GOOD, IDENTITY, ISSUER)).encode()),
        ProvenanceRule(BUILDER, SOURCE, None, ISSUER, IDENTITY, INSTANCE.trusted_root),
        None,
    ),
    "another identity": (
        SigstoreBundle(json.dumps(INSTANCE.bundle(GOOD, IDENTITY, ISSUER)).encode()),
        ProvenanceRule(BUILDER, SOURCE, None, ISSUER, "*@acme.example", INSTANCE.trusted_root),
        f"1 by another identity ({IDENTITY}",
    ),
    "identity, another source": (
        SigstoreBundle(json.dumps(INSTANCE.bundle(GOOD, IDENTITY, ISSUER)).encode()),
        ProvenanceRule(BUILDER, "https://rival.example/*", None, ISSUER, IDENTITY, INSTANCE.trusted_root),
        "1 from another source",
    ),
    "certificate of cosign 2": (
        Attestation(b"{}", keyless=True),
        ProvenanceRule(BUILDER, SOURCE, None, ISSUER, IDENTITY, INSTANCE.trusted_root),
        "1 by a certificate in the format of cosign 2: sign with cosign 3",
    ),
}


@pytest.mark.parametrize(("signature", "rule", "reason"), TABLE.values(), ids=TABLE)
def test_the_verdict_about_provenance(signature: Signature, rule: ProvenanceRule, reason: str | None) -> None:
    verdict = judged(signature, rule)
    assert verdict.trusted is (reason is None)
    if reason is None:
        assert verdict.sentence == f"built by {verdict.builds[0]}"
        assert verdict.builds[0].startswith(f"{BUILDER} from ")
        assert "(attested by cosign " in verdict.builds[0]
        assert Verdict.load(verdict.dump()) == verdict
    else:
        assert reason in verdict.sentence
        assert (
            "has no provenance that acme's policy accepts (1 signature or attestation found"
            in verdict.sentence
        )
        assert verdict.builds == ()


def test_provenance_is_no_signature_and_a_signature_is_no_provenance() -> None:
    signed = bundled(statement(str(IMAGE.digest)))
    assert "1 which is an attestation" in judged(bundled(GOOD), CosignKeyRule(PEM)).sentence
    assert "1 which is not provenance" in judged(signed, BY_KEY).sentence
    both = (CosignKeyRule(PEM), BY_KEY)
    assert "missing: provenance of" in judged(signed, *both, require=Require.ALL).sentence
    judge = Judge(Policy("*", Mode.ENFORCE, Require.ALL, both), IMAGE.digest, [], NOW)
    judge.consider(IMAGE, [signed, attested(GOOD)])
    assert judge.verdict("acme").sentence.startswith("signed by cosign key sha256:")
    assert f"; built by {BUILDER} from {SOURCE}" in judge.verdict("acme").sentence


@pytest.mark.parametrize(
    ("parameters", "source"),
    [
        ({"workflow": {"repository": SOURCE}}, SOURCE),
        ({"source": f"git+{SOURCE}.git@refs/heads/main"}, SOURCE),
        ({"source": {"uri": f"git+{SOURCE}#main"}}, SOURCE),
        ({"source": {"repository": f"{SOURCE}/"}}, SOURCE),
        ({"configSource": {"uri": f"{SOURCE}.git#refs/heads/main"}}, SOURCE),
        ({"repository": "git@github.com:acme/app.git"}, "git@github.com:acme/app"),
        ({"source": [SOURCE]}, None),
        ([], None),
    ],
)
def test_the_source_is_read_from_the_parameters_of_known_build_types(
    parameters: object, source: str | None
) -> None:
    assert read_provenance(Statement(PROVENANCE, v1(parameters), {})) == Provenance(BUILDER, source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([PROVENANCE, V0_2]), JSON)
def test_predicates_of_any_shape_are_not_accepted(kind: str, predicate: object) -> None:
    with pytest.raises(SignatureError, match="does not name the builder"):
        read_provenance(Statement(kind, predicate, {}))


@pytest.mark.parametrize(
    "rule",
    [
        ProvenanceRule("*"),
        ProvenanceRule("*", key=PEM, issuer=ISSUER),
        ProvenanceRule("*", key=PEM, trusted_root={}),
        ProvenanceRule("*", issuer=ISSUER),
        ProvenanceRule("*", identity=IDENTITY),
        ProvenanceRule("*", key="no key"),
    ],
)
def test_a_rule_needs_either_a_key_or_an_identity(rule: ProvenanceRule) -> None:
    with pytest.raises(SignatureError, match=r"either a key, or an issuer and an identity|not a public key"):
        check_rule(rule, NOW)


def test_only_provenance_is_fetched_of_the_attestations_of_cosign_2() -> None:
    kind = "application/vnd.dsse.envelope.v1+json"
    names = {"provenance": PROVENANCE, "old": V0_2, "bill": "https://spdx.dev/Document"}
    layers = [
        descriptor(kind, name.encode(), annotations={"predicateType": type_}) for name, type_ in names.items()
    ]
    layers += [descriptor(kind, b"unnamed"), descriptor("text/plain", b"text")]
    config = descriptor("application/vnd.oci.image.config.v1+json", b"{}")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    found = provenance_entries(json.dumps(document).encode(), None)
    expected = [Digest.of(name) for name in (b"provenance", b"old", b"unnamed")]
    assert [entry.envelope.digest for entry in found] == expected
