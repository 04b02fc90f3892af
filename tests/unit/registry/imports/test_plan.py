import json

import pytest

from registry.errors import ImageTooLargeError
from registry.imports.plan import plan_import
from registry.model.images import ContentKind
from registry.oci.documents import parse_document
from registry.oci.platform import LINUX_AMD64
from registry.upstream.image_documents import ImageDocuments
from registry.upstream.repository import Document
from storage.digest import Digest
from tests.support.distribution import Image, make_image, make_index

LAYERS = [b"one", b"four", b"one"]


def document(image: Image, digest: str) -> Document:
    media_type, data = image.manifests[digest]
    return Document(data, Digest.parse(digest), parse_document(data, media_type))


def documents(*, indexed: bool = True) -> ImageDocuments:
    image = make_image(LAYERS)
    index = make_index({"linux/amd64": image})
    indexes = (document(index, index.root),) if indexed else ()
    config = next(data for data in image.blobs.values() if b"rootfs" in data)
    return ImageDocuments(indexes, document(image, image.root), config, LINUX_AMD64)


def test_a_plan_holds_every_digest_once_with_what_it_is() -> None:
    plan = plan_import([documents()], 1 << 20)
    image = plan.platforms[0].image
    kinds = [content.kind for content in image.contents]
    assert kinds == [
        ContentKind.INDEX,
        ContentKind.MANIFEST,
        ContentKind.CONFIG,
        ContentKind.LAYER,
        ContentKind.LAYER,
    ]
    assert len({content.digest for content in image.contents}) == len(kinds)
    assert [layer.digest for layer in plan.layers] == [Digest.of(b"one"), Digest.of(b"four")]


def test_documents_are_stored_children_first() -> None:
    plan = plan_import([documents()], 1 << 20)
    assert [content.kind for content, _ in plan.documents] == [
        ContentKind.CONFIG,
        ContentKind.MANIFEST,
        ContentKind.INDEX,
    ]
    for content, data in plan.documents:
        assert content.digest.matches(data)
        assert content.size_bytes == len(data)


def test_an_images_digest_is_the_index_or_without_one_the_manifest() -> None:
    indexed, bare = (
        plan_import([documents()], 1 << 20).platforms[0].image,
        plan_import([documents(indexed=False)], 1 << 20).platforms[0].image,
    )
    assert indexed.digest != indexed.manifest_digest == bare.manifest_digest == bare.digest
    assert indexed.platform == bare.platform == "linux/amd64"


def test_the_limit_counts_config_and_layers_once_and_names_both_sizes() -> None:
    found = documents()
    size = len(found.config) + 7
    assert plan_import([found], size).platforms[0].image.size_bytes == size
    with pytest.raises(ImageTooLargeError, match=f"size is {size} bytes, the limit is {size - 1} bytes"):
        plan_import([found], size - 1)


def test_large_sizes_are_named_in_gigabytes() -> None:
    media_type, data = make_image([b"x"]).manifests.popitem()[1]
    fields = json.loads(data)
    fields["layers"][0]["size"] = 36_000_000_000
    grown = json.dumps(fields).encode()
    manifest = Document(grown, Digest.of(grown), parse_document(grown, media_type))
    with pytest.raises(ImageTooLargeError, match=r"compressed size is 36\.00 GB, the limit is 35\.00 GB"):
        plan_import([ImageDocuments((), manifest, b"{}", LINUX_AMD64)], 35_000_000_000)
