import json
import struct

import pytest
import zstandard

from registry.errors import DocumentError
from registry.oci.documents import Descriptor, Manifest, parse_document
from registry.oci.mediatypes import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST
from registry.oci.seekable import SeekTable, compress_frame
from registry.oci.variant import (
    OCI_ZSTD_LAYER,
    ORIGINAL_ANNOTATION,
    parse_diff_ids,
    variant_manifest,
)
from storage.digest import Digest

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def described(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def manifest(media_type: str, config_type: str, *layers: dict[str, object], **more: object) -> bytes:
    fields = {"schemaVersion": 2, "mediaType": media_type, "config": described(b"config", config_type)}
    return json.dumps(fields | {"layers": list(layers)} | more).encode()


def in_zstd(content: bytes) -> tuple[Digest, Descriptor]:
    return Digest.of(content), Descriptor(OCI_ZSTD_LAYER, Digest.of(content + b" in zstd"), 7)


def test_a_docker_image_gets_an_oci_manifest_over_the_same_config() -> None:
    original = manifest(
        DOCKER_MANIFEST,
        DOCKER_CONFIG,
        described(b"shrinks", DOCKER_LAYER),
        described(b"stays", DOCKER_LAYER),
        described(b"foreign", DOCKER_FOREIGN, urls=["https://elsewhere.example/layer"]),
    )
    of, encoded = in_zstd(b"shrinks")
    data = variant_manifest(original, Digest.of(original), {of: encoded})
    parsed = parse_document(data, OCI_MANIFEST)
    assert isinstance(parsed, Manifest)
    assert (parsed.config.media_type, parsed.config.digest) == (OCI_CONFIG, Digest.of(b"config"))
    assert [layer.media_type for layer in parsed.layers] == [
        OCI_ZSTD_LAYER,
        OCI_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ]
    assert parsed.layers[0] == encoded
    fields = json.loads(data)
    assert fields["layers"][2]["urls"] == ["https://elsewhere.example/layer"]
    assert fields["annotations"] == {ORIGINAL_ANNOTATION: str(Digest.of(original))}


def test_annotations_are_kept_except_those_of_the_former_encoding() -> None:
    notes = {"org.example.note": "kept", "containerd.io/snapshot/stargz/toc.digest": "sha256:00"}
    subject = described(b"subject", OCI_MANIFEST)
    original = manifest(
        OCI_MANIFEST,
        OCI_CONFIG,
        described(b"shrinks", OCI_LAYER, annotations=notes),
        described(b"stays", OCI_LAYER, annotations=notes),
        annotations={"org.example.image": "übersetzt"},
        subject=subject,
    )
    of, encoded = in_zstd(b"shrinks")
    fields = json.loads(variant_manifest(original, Digest.of(original), {of: encoded}))
    assert fields["layers"][0]["annotations"] == {"org.example.note": "kept"}
    assert fields["layers"][1]["annotations"] == notes
    assert fields["annotations"]["org.example.image"] == "übersetzt"
    assert fields["subject"] == subject


def test_a_layer_that_repeats_is_replaced_wherever_it_stands() -> None:
    layer = described(b"twice", OCI_LAYER)
    original = manifest(OCI_MANIFEST, OCI_CONFIG, layer, described(b"other", OCI_LAYER), layer)
    of, encoded = in_zstd(b"twice")
    parsed = parse_document(variant_manifest(original, Digest.of(original), {of: encoded}))
    assert isinstance(parsed, Manifest)
    assert [layer == encoded for layer in parsed.layers] == [True, False, True]


def test_annotations_that_are_none_leave_an_image_without_a_variant() -> None:
    original = manifest(OCI_MANIFEST, OCI_CONFIG, annotations=["no"])
    with pytest.raises(DocumentError):
        variant_manifest(original, Digest.of(original), {})


def test_a_config_says_what_its_layers_unpack_to_or_nothing() -> None:
    digests = [str(Digest.of(b"a")), str(Digest.of(b"b"))]
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": digests}}).encode()
    assert parse_diff_ids(config) == (Digest.of(b"a"), Digest.of(b"b"))
    assert parse_diff_ids(b"{}") == parse_diff_ids(b'{"rootfs": {"diff_ids": []}}') == ()
    for broken in (b'{"rootfs": {"diff_ids": ["sha256:x"]}}', b'{"rootfs": {"diff_ids": {"a": 1}}}'):
        with pytest.raises(DocumentError):
            parse_diff_ids(broken)


def test_the_table_at_the_end_finds_every_frame() -> None:
    table, pieces = SeekTable(), [b"first" * 100, b"second" * 50]
    frames = [compress_frame(piece, 3) for piece in pieces]
    for frame, piece in zip(frames, pieces, strict=True):
        table.add(len(frame), len(piece))
    stream = b"".join(frames) + table.dump()
    assert len(table.dump()) == table.size_bytes
    count, flags, magic = struct.unpack("<IBI", stream[-9:])
    assert (count, flags, magic) == (2, 0, 0x8F92EAB1)
    entries = stream[-9 - 8 * count : -9]
    offset = 0
    for entry, piece in zip(struct.iter_unpack("<II", entries), pieces, strict=True):
        frame = stream[offset : offset + entry[0]]
        assert zstandard.decompress(frame) == piece
        offset += entry[0]
    magic, length = struct.unpack("<II", stream[offset : offset + 8])
    assert (magic, length) == (0x184D2A5E, len(stream) - offset - 8)


@pytest.mark.parametrize("old", ["", "application/octet-stream", "application/json", "text/html"])
def test_a_config_whose_type_says_nothing_gets_ocis_type(old: str) -> None:
    original = manifest(DOCKER_MANIFEST, old, described(b"shrinks", DOCKER_LAYER))
    of, encoded = in_zstd(b"shrinks")
    fields = json.loads(variant_manifest(original, Digest.of(original), {of: encoded}))
    assert fields["config"] == described(b"config", OCI_CONFIG)
