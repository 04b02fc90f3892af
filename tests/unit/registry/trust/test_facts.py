"""What attachments and annotations state about an image."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DocumentError, SignatureError
from registry.oci.documents import parse_artifact
from registry.trust.facts import (
    MAX_SBOMS,
    BaseImage,
    ImageFacts,
    Sbom,
    SbomFormat,
    base_in_manifest,
    facts_in_artifact,
    open_sbom,
)
from registry.trust.provenance import Provenance
from storage.digest import Digest
from tests.support.distribution import OCI_MANIFEST, descriptor
from tests.support.signing import BUNDLE, EMPTY, bundle, new_key, statement

IMAGE = "sha256:" + "0" * 64
SPDX, CYCLONEDX = {"spdxVersion": "SPDX-2.3"}, {"bomFormat": "CycloneDX"}
SPDX_TYPE, CYCLONEDX_TYPE = "https://spdx.dev/Document", "https://cyclonedx.org/bom"
PROVENANCE = {
    "builder": {"id": "https://builder.example"},
    "invocation": {"configSource": {"uri": "git+https://s"}},
}
DSSE, IN_TOTO = "application/vnd.dsse.envelope.v1+json", "application/vnd.in-toto+json"


def artifact(
    media_type: str, *blobs: bytes, kind: str | None = None, layer: object = None, own: object = None
) -> ImageFacts:
    """Return the facts in an artifact with layers of one type; `layer` and `own` are annotations."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [
            descriptor(media_type, blob, **({"annotations": layer} if layer else {})) for blob in blobs
        ],
    }
    document |= {"artifactType": kind} if kind else {}
    document |= {"annotations": own} if own else {}
    data = json.dumps(document).encode()
    parse_artifact(data)
    return facts_in_artifact(data, {Digest.of(blob): blob for blob in (b"{}", *blobs)})


def stated(kind: str, predicate: object) -> bytes:
    return json.dumps(json.loads(statement(IMAGE, kind)) | {"predicate": predicate}).encode()


def enveloped(kind: str, predicate: object) -> bytes:
    return json.dumps(bundle(new_key(), stated(kind, predicate))["dsseEnvelope"]).encode()


def bundled(kind: str, predicate: object) -> bytes:
    return json.dumps(bundle(new_key(), stated(kind, predicate))).encode()


XML = b"<?xml version='1.0'?><bom/>"
PLAIN: dict[str, tuple[str, str | None, bytes, str | None]] = {
    "oras, SPDX": ("application/spdx+json", "application/spdx+json", b"{}", "application/spdx+json"),
    "oras, type of the artifact only": (
        "application/octet-stream",
        "application/vnd.cyclonedx+json",
        b" {}",
        "application/vnd.cyclonedx+json",
    ),
    "cosign attach sbom, SPDX": ("text/spdx", None, b"SPDXVersion: SPDX-2.3", "text/spdx"),
    "cosign attach sbom, SPDX in JSON": ("text/spdx+json", None, b"{}", "application/spdx+json"),
    "cosign attach sbom, SPDX in XML": ("text/spdx+xml", None, XML, "application/xml"),
    "cosign attach sbom, CycloneDX": (
        "application/vnd.cyclonedx",
        None,
        XML,
        "application/vnd.cyclonedx+xml",
    ),
    "with a byte order mark": ("text/spdx+json", None, b"\xef\xbb\xbf{}", "application/spdx+json"),
    "no format of CycloneDX": ("application/vnd.cyclonedx+json", None, b"text", None),
    "another artifact": ("application/vnd.example", "application/vnd.example", b"{}", None),
}


@pytest.mark.parametrize(("media_type", "kind", "document", "shown"), PLAIN.values(), ids=PLAIN)
def test_an_attached_document_is_found(
    media_type: str, kind: str | None, document: bytes, shown: str | None
) -> None:
    found = artifact(media_type, document, kind=kind).sboms
    assert [each.media_type for each in found] == ([shown] if shown else [])
    for each in found:
        assert open_sbom(document, each) == (document, shown)


ATTESTED = {
    "BuildKit": (IN_TOTO, stated(SPDX_TYPE, SPDX), {"layer": {"in-toto.io/predicate-type": SPDX_TYPE}}, SPDX),
    "cosign 2": (DSSE, enveloped(SPDX_TYPE, SPDX), {"layer": {"predicateType": SPDX_TYPE}}, SPDX),
    "cosign 2, version": (
        DSSE,
        enveloped(f"{CYCLONEDX_TYPE}/v1.5", CYCLONEDX),
        {"layer": {"predicateType": f"{CYCLONEDX_TYPE}/v1.5"}},
        CYCLONEDX,
    ),
    "cosign 3": (
        BUNDLE,
        bundled(CYCLONEDX_TYPE, CYCLONEDX),
        {"own": {"dev.sigstore.bundle.predicateType": CYCLONEDX_TYPE}},
        CYCLONEDX,
    ),
}


@pytest.mark.parametrize(("media_type", "blob", "annotations", "document"), ATTESTED.values(), ids=ATTESTED)
def test_an_attested_document_is_found_and_unwrapped(
    media_type: str, blob: bytes, annotations: dict[str, Any], document: dict[str, str]
) -> None:
    [found] = artifact(media_type, blob, **annotations).sboms
    format_ = SbomFormat.SPDX if document is SPDX else SbomFormat.CYCLONEDX
    assert (found.format, found.digest, found.size_bytes, found.attested) == (
        format_,
        Digest.of(blob),
        len(blob),
        True,
    )
    data, media_type = open_sbom(blob, found)
    assert json.loads(data) == document
    assert media_type == found.media_type


def test_an_attested_document_that_is_not_json_is_unwrapped() -> None:
    text = "SPDXVersion: SPDX-2.3"
    for predicate in (text, {"Data": text, "Timestamp": "now"}):
        blob = enveloped(SPDX_TYPE, predicate)
        [found] = artifact(DSSE, blob, layer={"predicateType": SPDX_TYPE}).sboms
        assert open_sbom(blob, found) == (text.encode(), "text/spdx")


@pytest.mark.parametrize(
    "blob", [b"", b"[]", b"{}", stated(SPDX_TYPE, 1), stated(SPDX_TYPE, None), b"[" * 9999]
)
def test_a_damaged_attestation_cannot_be_opened(blob: bytes) -> None:
    [found] = artifact(IN_TOTO, blob, layer={"predicateType": SPDX_TYPE}).sboms
    with pytest.raises(SignatureError):
        open_sbom(blob, found)


def test_provenance_is_read() -> None:
    kind = "https://slsa.dev/provenance/v0.2"
    expected = Provenance("https://builder.example", "https://s")
    for media_type, blob in ((IN_TOTO, stated(kind, PROVENANCE)), (DSSE, enveloped(kind, PROVENANCE))):
        assert artifact(media_type, blob, layer={"predicateType": kind}).provenance == expected
    for blob in (b"", stated(kind, {}), stated(kind, PROVENANCE) + b" " * (1 << 20)):
        assert artifact(IN_TOTO, blob, layer={"predicateType": kind}) == ImageFacts()


def manifest(annotations: object) -> bytes:
    return json.dumps({"annotations": annotations}).encode()


NAME, DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"


@pytest.mark.parametrize(
    ("annotations", "base"),
    [
        (None, None),
        ({"other": "text"}, None),
        ({NAME: "docker.io/library/debian:12"}, BaseImage("docker.io/library/debian:12", None)),
        ({NAME: "debian", DIGEST: IMAGE}, BaseImage("debian", IMAGE)),
        ({NAME: "a\nb", DIGEST: "sha256:0"}, None),
        ({NAME: "a" * 513, DIGEST: None}, None),
    ],
)
def test_the_base_image_is_that_of_the_annotations(annotations: object, base: BaseImage | None) -> None:
    assert base_in_manifest(manifest(annotations)).base == base


def test_at_most_eight_documents_are_kept_each_once() -> None:
    blobs = [f"SPDXVersion: {number}".encode() for number in range(MAX_SBOMS + 2)]
    found = artifact("text/spdx", *blobs)
    assert len(found.sboms) == MAX_SBOMS
    assert found.joined(found) == found


TEXT = st.text(max_size=20)
SBOMS = st.builds(
    Sbom,
    st.sampled_from(SbomFormat),
    TEXT.map(lambda text: Digest.of(text.encode())),
    TEXT,
    st.integers(0),
    st.booleans(),
)
FACTS = st.builds(
    ImageFacts,
    st.lists(SBOMS, max_size=3).map(tuple),
    st.none() | st.builds(Provenance, TEXT, st.none() | TEXT),
    st.none() | st.builds(BaseImage, st.none() | TEXT, st.none() | TEXT),
)


@given(FACTS)
def test_facts_are_loaded_as_they_were_dumped(facts: ImageFacts) -> None:
    assert ImageFacts.load(json.loads(json.dumps(facts.dump()))) == facts
    assert ImageFacts.load(None) == ImageFacts()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["artifactType", "annotations", "layers"]), JSON)
def test_artifacts_of_any_shape_that_imports_accept_state_something_or_nothing(
    name: str, value: object
) -> None:
    layer = descriptor(IN_TOTO, b"{}", **({"annotations": value} if name == "layers" else {}))
    document = {"schemaVersion": 2, "config": descriptor(EMPTY, b"{}"), "layers": [layer]}
    data = json.dumps(document if name == "layers" else document | {name: value}).encode()
    try:
        parse_artifact(data)
    except DocumentError:
        return
    assert facts_in_artifact(data, {Digest.of(b"{}"): b"{}"}).provenance is None
