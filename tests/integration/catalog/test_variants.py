"""Images with a variant: found by either digest, and replaced by a later import."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import select

from registry.catalog.collection import SqlCollection
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.images import SqlImages, SqlKnownLayers
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.tables import image_contents
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.model.imports import KnownLayer
from registry.oci.mediatypes import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from registry.oci.variant import OCI_ZSTD_LAYER
from storage.digest import Digest
from storage.records import KeyRecord
from tests.support.catalogs import group_catalog
from tests.support.groups import created

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REPOSITORY = "acme/shop/{}"


def content(name: str, kind: ContentKind, media_type: str, size: int, diff_id: str = "") -> ImageContent:
    return ImageContent(
        Digest.of(name.encode()), kind, media_type, size, Digest.of(diff_id.encode()) if diff_id else None
    )


CONFIG = content("config", ContentKind.CONFIG, OCI_CONFIG, 5)
SHRINKS = content("shrinks", ContentKind.LAYER, GZIP_LAYER, 100, "tar 1")
STAYS = content("stays", ContentKind.LAYER, GZIP_LAYER, 50, "tar 2")
MANIFEST = content("manifest", ContentKind.MANIFEST, OCI_MANIFEST, 7)
SIGNATURE = content("signature", ContentKind.ATTACHMENT, OCI_MANIFEST, 9)


def variant(name: str = "zstd", size: int = 80) -> StoredImage:
    manifest = content(f"manifest {name}", ContentKind.MANIFEST, OCI_MANIFEST, 8)
    layer = content(name, ContentKind.LAYER, OCI_ZSTD_LAYER, size, "tar 1")
    contents = (manifest, CONFIG, layer, STAYS)
    return StoredImage(
        manifest.digest, manifest.digest, "linux/amd64", contents, 55 + size, variant=Variant.ZSTD
    )


def image(zstd: StoredImage | None) -> StoredImage:
    index = content("index", ContentKind.INDEX, OCI_INDEX, 6)
    contents = (index, MANIFEST, CONFIG, SHRINKS, STAYS)
    return StoredImage(index.digest, MANIFEST.digest, "linux/amd64", contents, 155, zstd=zstd)


async def enter(database: Database, name: str, entered: StoredImage) -> Group:
    """Import an image into a new group."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    group = Group(
        id=str(uuid4()),
        key=GroupKey("acme", "shop", name),
        image="app",
        spec={},
        version=1,
        autostart=False,
        status=GroupStatus.PENDING,
        status_description="",
        status_since=now,
        created_at=now,
        updated_at=now,
        job_id=str(uuid4()),
    )
    queue = SqlJobQueue(database, SystemClock())
    await group_catalog(database).create(created(group), None)
    job = await queue.claim("w1", 20)
    assert job is not None
    assert await queue.succeed(job, "w1", entered)
    return group


async def test_an_image_comes_back_with_its_variant_and_either_by_its_digest(database: Database) -> None:
    catalog, entered = group_catalog(database), image(variant())
    group = await enter(database, "web", entered)
    assert entered.zstd is not None
    found = await catalog.image(group.id, 1)
    assert found is not None
    assert found.zstd is not None
    assert replace(found, zstd=None) == replace(entered, zstd=None)
    assert set(found.zstd.contents) == set(entered.zstd.contents)
    assert replace(found.zstd, contents=entered.zstd.contents) == entered.zstd
    assert await catalog.image_by_digest("acme/shop/web", str(entered.digest)) == found
    assert await catalog.image_by_digest("acme/shop/web", str(entered.zstd.digest)) == found.zstd
    of_platform = await catalog.image_by_digest("acme/shop/web", str(MANIFEST.digest))
    assert of_platform == replace(found, digest=MANIFEST.digest)
    named = [entered.digest, MANIFEST.digest, entered.zstd.digest]
    assert await catalog.version_digests("acme/shop/web", 1) == named
    [row] = await SqlImages(database).list("acme", 10)
    assert (row["size_bytes"], row["zstd_bytes"]) == (155, 135)
    assert await SqlImages(database).list("rival", 10) == []


async def test_what_was_found_out_about_layers_is_known_to_the_next_import(database: Database) -> None:
    memory, asked = SqlKnownLayers(database), [SHRINKS.digest, STAYS.digest, Digest.of(b"never seen")]
    assert await memory.known("acme", asked) == {}
    await enter(database, "web", image(variant()))
    [encoded] = [c for c in variant().contents if c.media_type == OCI_ZSTD_LAYER]
    assert SHRINKS.diff_id is not None
    assert STAYS.diff_id is not None
    assert await memory.known("acme", asked) == {
        SHRINKS.digest: KnownLayer(SHRINKS.diff_id, encoded),
        STAYS.digest: KnownLayer(STAYS.diff_id, None),
    }
    assert await memory.known("rival", asked) == {}


async def test_an_image_imported_before_gets_its_variant_from_a_later_import(database: Database) -> None:
    catalog = group_catalog(database)
    bare = image(None)
    unchecked = replace(bare, contents=tuple(replace(c, diff_id=None) for c in bare.contents))
    group = await enter(database, "old", unchecked)
    await enter(database, "new", image(variant()))
    found = await catalog.image(group.id, 1)
    assert found is not None
    assert found.contents == bare.contents
    assert found.zstd is not None
    assert found.zstd.digest == variant().digest


async def test_a_variant_stays_until_an_import_brings_another(database: Database) -> None:
    catalog = group_catalog(database)
    group = await enter(database, "one", image(variant()))
    with_more = image(None).with_attached([SIGNATURE])
    await enter(database, "two", with_more)
    found = await catalog.image(group.id, 1)
    assert found is not None
    assert found.zstd is not None
    assert found.zstd.digest == variant().digest
    assert SIGNATURE in found.contents
    assert SIGNATURE in found.zstd.contents

    other = variant("another encoding", 70)
    await enter(database, "three", image(other).with_attached([SIGNATURE]))
    found = await catalog.image(group.id, 1)
    assert found is not None
    assert found.zstd is not None
    assert found.zstd.digest == other.digest
    assert set(found.zstd.contents) == {*other.contents, SIGNATURE}
    assert set(found.contents) == {*image(None).contents, SIGNATURE}
    assert await catalog.image_by_digest("acme/shop/one", str(variant().digest)) is None
    async with database.read() as connection:
        digests = (await connection.execute(select(image_contents.c.digest))).scalars().all()
    assert len(digests) == len(set(digests))


async def test_the_blobs_of_a_variant_live_as_long_as_their_image(database: Database) -> None:
    records, collection = SqlKeyRecords(database), SqlCollection(database, SystemClock())
    entered = image(variant())
    assert entered.zstd is not None
    everything = {c.digest for c in (*entered.contents, *entered.zstd.contents)}
    for number, digest in enumerate(sorted(everything)):
        await records.add(KeyRecord("acme", digest, bytes(16), f"{number:064x}", 1, 1, "kek", b"wrapped"))
    group = await enter(database, "web", entered)
    await collection.mark([])
    assert list(await collection.remove_records(0, 100)) == []
    await group_catalog(database).delete(group.key)
    await collection.mark([])
    assert {record.digest for record in await collection.remove_records(0, 100)} == everything
