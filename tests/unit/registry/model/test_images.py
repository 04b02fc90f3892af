"""The image that a session is for, by the platform of its node."""

import pytest

from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from registry.oci.platform import Platform
from storage.digest import Digest

ROOT, INDEX, ZSTD_INDEX = (Digest.of(name) for name in (b"root", b"index", b"zstd index"))


def content(digest: Digest, kind: ContentKind) -> ImageContent:
    return ImageContent(digest, kind, OCI_INDEX if kind is ContentKind.INDEX else OCI_MANIFEST, 10)


def part(name: str, *, zstd: bool = False) -> StoredImage:
    manifest = Digest.of(name.encode())
    contents = (content(ROOT, ContentKind.INDEX), content(manifest, ContentKind.MANIFEST))
    variant = None
    if zstd:
        digest = Digest.of(f"zstd {name}".encode())
        only = (content(digest, ContentKind.MANIFEST),)
        variant = StoredImage(digest, digest, name, only, 50, Variant.ZSTD)
    return StoredImage(ROOT, manifest, name, contents, 100, zstd=variant)


PARTS = (part("linux/amd64", zstd=True), part("linux/arm64"), part("linux/arm/v6"))
WHOLE = StoredImage(
    ROOT,
    PARTS[0].manifest_digest,
    "linux/amd64,linux/arm64,linux/arm/v6",
    (content(INDEX, ContentKind.INDEX), *PARTS[0].contents),
    100,
    index_digest=INDEX,
    platforms=PARTS,
    zstd=StoredImage(ZSTD_INDEX, ZSTD_INDEX, "", (content(ZSTD_INDEX, ContentKind.INDEX),), 50, Variant.ZSTD),
)


@pytest.mark.parametrize(
    ("node", "image"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v6"),
        ("linux/arm/v5", None),
        ("linux/s390x", None),
    ],
)
def test_a_nodes_tags_name_the_manifest_of_its_platform(node: str, image: str | None) -> None:
    chosen = WHOLE.choose(Platform.parse(node))
    assert (chosen.platform if chosen else None) == image
    if chosen is not None:
        assert chosen.digest == chosen.manifest_digest == Digest.of(chosen.platform.encode())
        assert chosen.content(ROOT) is not None
        assert WHOLE.of_session(chosen.digest) == chosen


def test_the_tags_of_a_node_of_unknown_platform_name_the_index_of_all() -> None:
    chosen = WHOLE.choose(None)
    assert chosen is not None
    assert chosen.digest == INDEX
    assert chosen.content(chosen.digest) is not None


def test_an_image_of_one_platform_keeps_the_original_index() -> None:
    chosen = PARTS[0].choose(None)
    assert chosen == PARTS[0]


def test_every_image_of_a_session_is_found_by_its_digest() -> None:
    assert PARTS[0].zstd is not None
    for digest, variant in (
        (INDEX, Variant.ORIGINAL),
        (ZSTD_INDEX, Variant.ZSTD),
        (PARTS[2].manifest_digest, Variant.ORIGINAL),
        (PARTS[0].zstd.digest, Variant.ZSTD),
    ):
        found = WHOLE.of_session(digest)
        assert found is not None
        assert (found.digest, found.variant) == (digest, variant)
    assert WHOLE.of_session(Digest.of(b"another")) is None
    assert WHOLE.of_session(ROOT) is None
