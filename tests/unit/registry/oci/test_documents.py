import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DocumentError
from registry.oci import mediatypes
from registry.oci.config import parse_config_platform
from registry.oci.documents import (
    MAX_DOCUMENT_BYTES,
    MAX_LAYERS,
    Index,
    Manifest,
    parse_document,
)
from registry.oci.platform import LINUX_AMD64, Platform

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(media_type: str, mark: str = "a", size: object = 7, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{mark * 64}", "size": size, **more}


def manifest(**changes: object) -> dict[str, Any]:
    fields = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": descriptor(mediatypes.OCI_CONFIG, "c"),
        "layers": [descriptor(LAYER, "1"), descriptor(LAYER, "2")],
    }
    merged = {**fields, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def index(*entries: dict[str, Any], **changes: object) -> dict[str, Any]:
    fields = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": list(entries)}
    return {**fields, **changes}


def entry(mark: str, platform: str | None = None, **more: object) -> dict[str, Any]:
    fields = descriptor(mediatypes.OCI_MANIFEST, mark, **more)
    if platform is not None:
        fields["platform"] = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return fields


def parse(fields: object, content_type: str | None = None) -> Manifest | Index:
    return parse_document(json.dumps(fields).encode(), content_type)


def chosen(document: Manifest | Index, platform: Platform = LINUX_AMD64) -> list[str]:
    assert isinstance(document, Index)
    return [found.digest.hex[0] for found in document.candidates(platform)]


def test_a_manifest_gives_its_config_and_layers_in_order() -> None:
    parsed = parse(manifest(), mediatypes.OCI_MANIFEST + "; charset=utf-8")
    assert isinstance(parsed, Manifest)
    assert [layer.digest.hex[0] for layer in parsed.layers] == ["1", "2"]
    assert [blob.digest.hex[0] for blob in parsed.blobs] == ["c", "1", "2"]


@pytest.mark.parametrize("kind", [mediatypes.OCI_MANIFEST, mediatypes.DOCKER_MANIFEST])
@pytest.mark.parametrize("old", [None, "", "application/octet-stream", "application/json", "text/html"])
def test_a_config_whose_type_says_nothing_has_the_type_of_today(old: str | None, kind: str) -> None:
    config = {name: value for name, value in descriptor("x/y", "c").items() if name != "mediaType"}
    parsed = parse(manifest(mediaType=kind, config=config if old is None else {**config, "mediaType": old}))
    assert isinstance(parsed, Manifest)
    assert parsed.config.media_type == mediatypes.CONFIG_OF[kind]


def test_an_image_without_layers_and_one_with_an_artifact_type_are_images() -> None:
    for fields in ({**manifest(), "layers": None}, manifest(artifactType="application/vnd.example")):
        assert isinstance(parse(fields), Manifest)


@pytest.mark.parametrize(
    "header", ["", "application/json; charset=utf-8", "application/octet-stream", "text/plain", "TEXT/PLAIN"]
)
@pytest.mark.parametrize("declared", [None, "", mediatypes.OCI_MANIFEST])
def test_a_content_type_that_says_nothing_contradicts_nothing(header: str, declared: str | None) -> None:
    parsed = parse(
        {**manifest(mediaType=None), **({} if declared is None else {"mediaType": declared})}, header
    )
    assert parsed.media_type == mediatypes.OCI_MANIFEST
    assert parse(index(), header).media_type == mediatypes.OCI_INDEX


def test_a_repeated_layer_is_one_blob() -> None:
    parsed = parse(manifest(layers=[descriptor(LAYER, mark) for mark in "1213"]))
    assert isinstance(parsed, Manifest)
    assert [blob.digest.hex[0] for blob in parsed.blobs] == ["c", "1", "2", "3"]


def test_without_a_media_type_of_its_own_a_document_takes_the_headers() -> None:
    assert isinstance(parse(manifest(mediaType=None), mediatypes.OCI_MANIFEST), Manifest)
    assert isinstance(parse(manifest(mediaType=None)), Manifest)
    with pytest.raises(DocumentError, match="fields"):
        parse(manifest(mediaType=None), mediatypes.OCI_INDEX)


@pytest.mark.parametrize(
    ("fields", "content_type", "reason"),
    [
        (manifest(), mediatypes.OCI_INDEX, "do not agree"),
        (manifest(), mediatypes.DOCKER_MANIFEST, "do not agree"),
        (manifest(), "text/html", "do not agree"),
        (manifest(mediaType=None), "application/vnd.example+json", "not supported"),
        (manifest(mediaType=[]), None, "not a string"),
        (manifest(mediaType=7), None, "not a string"),
        (manifest(manifests=[]), None, "both"),
        (index(layers=[]), None, "both"),
        (index(config=descriptor(mediatypes.OCI_CONFIG)), None, "both"),
        (manifest(mediaType=mediatypes.OCI_INDEX), None, "fields"),
        ({**index(), "mediaType": mediatypes.OCI_MANIFEST}, None, "fields"),
        (manifest(schemaVersion=1), None, "schema 1"),
        (manifest(fsLayers=[]), None, "schema 1"),
        (manifest(mediaType=None), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (manifest(schemaVersion=None), None, "schemaVersion"),
        (manifest(schemaVersion="2"), None, "schemaVersion"),
        (manifest(mediaType=mediatypes.OCI_ARTIFACT_MANIFEST), None, "artifact"),
        (manifest(artifactType="application/vnd.example", config=descriptor("a/b")), None, "artifact"),
        (manifest(config=descriptor("application/vnd.cncf.helm.config.v1+json")), None, "artifact"),
        (manifest(config=descriptor("application/vnd.oci.empty.v1+json")), None, "artifact"),
        (manifest(config=descriptor("application/octet-stream"), layers=[]), None, "artifact"),
        (manifest(config=descriptor("text/plain")), None, "artifact"),
        (manifest(config=descriptor("")), "application/vnd.oci.image.index.v1+json", "do not agree"),
        ({**manifest(), "manifests": None}, None, "both"),
        ({**index(), "layers": None}, None, "both"),
        (manifest(layers=[descriptor("application/vnd.in-toto+json")]), None, "artifact"),
        (manifest(config=None), None, "descriptor in config"),
        ({**manifest(), "config": None}, None, "descriptor in config"),
        (manifest(config=descriptor(mediatypes.OCI_CONFIG, size=MAX_DOCUMENT_BYTES + 1)), None, "4 MiB"),
        (manifest(layers=None), None, "no list"),
        (manifest(layers={}), None, "no list"),
        (manifest(layers=["x"]), None, "descriptor in layers"),
        (manifest(layers=[descriptor(LAYER, size=-1)]), None, "size"),
        (manifest(layers=[descriptor(LAYER, size=1.0)]), None, "size"),
        (manifest(layers=[descriptor(LAYER, size=True)]), None, "size"),
        (manifest(layers=[descriptor(LAYER, size=1 << 63)]), None, "size"),
        (manifest(layers=[descriptor(LAYER, "../")]), None, "digest"),
        (manifest(layers=[descriptor(LAYER, "A")]), None, "digest"),
        (manifest(layers=[{**descriptor(LAYER), "digest": None}]), None, "digest"),
        (manifest(layers=[descriptor("no type")]), None, "mediaType"),
        (manifest(layers=[descriptor(LAYER, size=1), descriptor(LAYER, size=2)]), None, "two sizes"),
        (manifest(layers=[descriptor(LAYER)] * (MAX_LAYERS + 1)), None, "more than 256"),
        (index(entry("a", platform="li nux/amd64")), None, "platform"),
        (index(descriptor(mediatypes.OCI_MANIFEST, platform=[])), None, "platform"),
        ([], None, "not a JSON object"),
    ],
)
def test_a_document_with_two_meanings_or_none_is_refused(
    fields: object, content_type: str | None, reason: str
) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse(fields, content_type)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"x": {"a": 1, "a": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="JSON"):
        parse_document(data)


def test_a_document_over_four_mib_is_refused() -> None:
    data = json.dumps(manifest()).encode()
    assert parse_document(data.ljust(MAX_DOCUMENT_BYTES))
    with pytest.raises(DocumentError, match="4 MiB"):
        parse_document(data.ljust(MAX_DOCUMENT_BYTES + 1))


def test_the_platform_is_chosen_and_attestations_are_not() -> None:
    attestation = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    parsed = parse(
        index(
            entry("a", "unknown/unknown"),
            entry("b", "linux/amd64", **attestation),
            entry("c", "linux/arm64/v8"),
            entry("d", "linux/amd64"),
            entry("e", "windows/amd64"),
        )
    )
    assert chosen(parsed) == ["d"]
    assert chosen(parsed, Platform.of("linux", "aarch64")) == ["c"]
    assert chosen(parsed, Platform("linux", "riscv64")) == []


def test_a_plain_variant_is_no_variant_and_a_newer_one_is_not_chosen() -> None:
    parsed = parse(
        index(entry("a", "linux/amd64/v3"), entry("b", "linux/amd64/v1"), entry("c", "linux/x86_64"))
    )
    assert chosen(parsed) == ["b", "c"]


def test_arm_falls_back_to_older_variants_best_first() -> None:
    parsed = parse(index(entry("a", "linux/arm/v5"), entry("b", "linux/arm/v7"), entry("c", "linux/arm/v6")))
    assert chosen(parsed, Platform.of("linux", "arm")) == ["b", "c", "a"]
    assert chosen(parsed, Platform.of("linux", "arm", "v6")) == ["c", "a"]


def test_what_names_no_platform_comes_later_and_386_last() -> None:
    entries = entry("c", "linux/386"), entry("a"), entry("b", "linux/amd64")
    assert chosen(parse(index(*entries))) == ["b", "a", "c"]


def test_a_config_names_its_platform_or_none() -> None:
    assert parse_config_platform(b'{"os": "linux", "architecture": "amd64"}') == LINUX_AMD64
    assert parse_config_platform(b"{}") is None
    with pytest.raises(DocumentError):
        parse_config_platform(b"[]")


WORD = st.text("ab/:", max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from([*manifest(), "manifests"])


@given(st.sampled_from(["manifest", "index"]), st.dictionaries(FIELDS, JSON, max_size=2))
def test_any_changed_document_is_read_or_refused(kind: str, changes: dict[str, object]) -> None:
    fields = manifest() if kind == "manifest" else index(entry("a", "linux/amd64"))
    try:
        parsed = parse(fields | changes)
    except DocumentError:
        return
    assert isinstance(parsed, (Manifest, Index))
    assert parsed.media_type in mediatypes.ACCEPTED


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_document(data)


@pytest.mark.parametrize(
    ("os", "architecture", "expected"),
    [
        ("linux", "amd64", LINUX_AMD64),
        ("windows", "arm64", Platform("windows", "arm64")),
        ("linux", "", None),
        ("", "amd64", None),
        (None, None, None),
    ],
)
def test_a_config_with_names_of_go_is_read(
    os: str | None, architecture: str | None, expected: Platform | None
) -> None:
    config = json.dumps({"os": os, "architecture": architecture}).encode()
    assert parse_config_platform(config) == expected


@pytest.mark.parametrize(
    ("os", "architecture"),
    [
        ("Linux", "amd64"),
        ("LINUX", "amd64"),
        ("linux ", "amd64"),
        ("gnu/linux", "amd64"),
        ("linux", "AMD64"),
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        (1, "amd64"),
        ([], "amd64"),
        (["linux"], "amd64"),
        ("linux", {"a": 1}),
        (True, "amd64"),
    ],
)
def test_a_config_with_other_names_is_refused(os: object, architecture: object) -> None:
    with pytest.raises(DocumentError, match=r"no (known|valid)"):
        parse_config_platform(json.dumps({"os": os, "architecture": architecture}).encode())
