from dataclasses import replace
from datetime import UTC, datetime, timedelta

from auth.records import BlobProgress, SessionView, blob_key
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.portal.delivery import blobs_of, pace_of
from storage.digest import Digest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG, BASE, TOP = (Digest.of(name) for name in (b"config", b"base", b"top"))


def content(digest: Digest, kind: ContentKind, size_bytes: int) -> ImageContent:
    return ImageContent(digest, kind, "application/octet-stream", size_bytes)


IMAGE = StoredImage(
    digest=Digest.of(b"manifest"),
    manifest_digest=Digest.of(b"manifest"),
    platform="linux/amd64",
    contents=(
        content(BASE, ContentKind.LAYER, 600),
        content(TOP, ContentKind.LAYER, 390),
        content(CONFIG, ContentKind.CONFIG, 10),
    ),
    size_bytes=1000,
)


def session(**delivered: int) -> SessionView:
    sizes = {"config": (CONFIG, 10), "base": (BASE, 600), "top": (TOP, 390)}
    blobs = {
        blob_key(str(digest)): BlobProgress(size, delivered.get(name, 0), requested=name in delivered)
        for name, (digest, size) in sizes.items()
    }
    began = NOW - timedelta(seconds=20)
    return SessionView("s", began, NOW - timedelta(seconds=15), NOW, 0, blobs, 0, 1)


def test_the_rate_is_that_until_the_last_request() -> None:
    pace = pace_of(session(config=10, base=490), NOW)
    assert (pace.bytes_per_s, pace.left_s, pace.idle_s) == (100, 5, 15)
    assert pace_of(session(), NOW).left_s is None


def test_layers_are_numbered_from_the_base_and_say_how_much_was_delivered() -> None:
    found = blobs_of(IMAGE, session(config=10, base=300))
    assert [(each.name, each.state, each.delivered_bytes) for each in found] == [
        ("Config", "complete", 10),
        ("Layer 1", "pulling", 300),
        ("Layer 2", "not requested", 0),
    ]
    assert [each.state for each in blobs_of(IMAGE, None)] == ["not requested"] * 3
    assert blobs_of(None, None) == ()


def test_of_several_platforms_the_one_that_the_node_pulls_is_listed() -> None:
    pulled = session(config=10)
    blobs = {
        blob_key(str(CONFIG)): replace(pulled.blobs[blob_key(str(CONFIG))], platforms="0"),
        blob_key(str(BASE)): replace(pulled.blobs[blob_key(str(BASE))], platforms="0"),
        blob_key(str(TOP)): replace(pulled.blobs[blob_key(str(TOP))], platforms="1"),
    }
    found = blobs_of(IMAGE, replace(pulled, blobs=blobs))
    assert [each.name for each in found] == ["Config", "Layer 1"]
