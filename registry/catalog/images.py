"""Images and their contents, in every variant (the tables `images` and `image_contents`).

A content belongs to one variant or to all: attachments, the config, and layers that are the same in both.
Queries for live, damaged or missing blobs therefore include the blobs of all variants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, insert, or_, select, update

from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.tables import image_contents, image_platforms, images
from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.model.imports import KnownLayer
from registry.oci.variant import OCI_ZSTD_LAYER
from registry.trust.facts import ImageFacts
from storage.digest import Digest


async def enter_image(
    connection: CatalogConnection, organization: str, image: StoredImage, now: datetime
) -> str:
    """Insert an image with its variant and platforms, or add new contents to a stored one. Returns its id.

    If a new import has another variant, for example because of other settings, it replaces the stored one.
    If it has none, the stored variant stays.
    """
    same = and_(
        images.c.organization == organization,
        images.c.digest == str(image.digest),
        images.c.platform == image.platform,
    )
    stored = (await connection.execute(select(images.c.id, images.c.zstd_digest).where(same))).first()
    if stored is None:
        image_id, has_variant = str(uuid4()), False
        values = {
            "id": image_id,
            "organization": organization,
            "digest": str(image.digest),
            "manifest_digest": str(image.manifest_digest),
            "platform": image.platform,
            "size_bytes": image.size_bytes,
            "created_at": now,
            "index_digest": str(image.index_digest) if image.index_digest else None,
        }
        await connection.execute(insert(images).values(values))
    else:
        image_id = str(stored.id)
        has_variant = image.zstd is not None and stored.zstd_digest == str(image.zstd.digest)
    if image.zstd is not None and not has_variant:
        await _replace_variant(connection, image_id, image.zstd)
    await _enter_contents(connection, image_id, image)
    if image.verdict is not None:
        found = {"verdict": image.verdict.dump()}
        await connection.execute(update(images).where(images.c.id == image_id).values(found))
    if image.facts != ImageFacts():
        stated = {"facts": image.facts.dump()}
        await connection.execute(update(images).where(images.c.id == image_id).values(stated))
    parts = [
        await enter_image(connection, organization, replace(platform, verdict=image.verdict), now)
        for platform in image.platforms
    ]
    if stored is None and parts:
        rows = [
            {"image_id": image_id, "position": position, "platform_image_id": part}
            for position, part in enumerate(parts)
        ]
        await connection.execute(insert(image_platforms), rows)
    return image_id


def load_image(connection: Connection, image_id: str) -> StoredImage:
    """Return an image, with its variant if it has one."""
    row = connection.execute(select(images).where(images.c.id == image_id)).mappings().one()
    of_image = select(image_contents).where(image_contents.c.image_id == image_id)
    found = connection.execute(of_image.order_by(image_contents.c.position))
    contents = [(content["variant"], _content(content)) for content in found.mappings()]

    def of(variant: Variant) -> tuple[ImageContent, ...]:
        return tuple(content for named, content in contents if named in {None, variant.value})

    parts = select(image_platforms.c.platform_image_id).where(image_platforms.c.image_id == image_id)
    part_ids = connection.execute(parts.order_by(image_platforms.c.position)).scalars().all()
    platforms = tuple(load_image(connection, part_id) for part_id in part_ids)
    image = StoredImage(
        digest=Digest.parse(row["digest"]),
        manifest_digest=Digest.parse(row["manifest_digest"]),
        platform=row["platform"],
        size_bytes=row["size_bytes"],
        contents=of(Variant.ORIGINAL),
        index_digest=Digest.parse(row["index_digest"]) if row["index_digest"] else None,
        platforms=platforms,
    )
    if row["zstd_digest"] is None:
        return image
    digest = Digest.parse(row["zstd_digest"])
    zstd = replace(
        image,
        digest=digest,
        manifest_digest=digest,
        size_bytes=row["zstd_bytes"],
        contents=of(Variant.ZSTD),
        variant=Variant.ZSTD,
        index_digest=digest if platforms else None,
        platforms=tuple(platform.zstd or platform for platform in platforms),
    )
    return replace(image, zstd=zstd)


class SqlKnownLayers:
    """Results of earlier imports of layers (implements `registry.model.imports.KnownLayers`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, organization: str, layers: Sequence[Digest]) -> Mapping[Digest, KnownLayer]:
        """Return the known layers of an organization. Does not check that their blobs are stored."""
        ours = (
            select(image_contents)
            .join(images, images.c.id == image_contents.c.image_id)
            .where(images.c.organization == organization, image_contents.c.diff_id.is_not(None))
        )
        listed = image_contents.c.digest.in_([str(digest) for digest in layers])
        async with self._database.read() as connection:
            checked = {
                row["digest"]: row["diff_id"]
                for row in (await connection.execute(ours.where(listed))).mappings()
            }
            encoded = ours.where(
                image_contents.c.diff_id.in_(set(checked.values())),
                image_contents.c.variant == Variant.ZSTD.value,
                image_contents.c.media_type == OCI_ZSTD_LAYER,
            )
            in_zstd = {
                row["diff_id"]: _content(row) for row in (await connection.execute(encoded)).mappings()
            }
        return {
            Digest.parse(digest): KnownLayer(Digest.parse(diff_id), in_zstd.get(diff_id))
            for digest, diff_id in checked.items()
        }


class SqlImages:
    """Directory of stored images (implements `registry.model.images.ImageDirectory`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, organization: str | None, limit: int, digest: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return the newest images of one or all organizations, as rows with the sizes of their variants.

        Each platform of an image is one row.

        Args:
            digest: Only images with this digest, or with a manifest of this digest.
        """
        one = select(images).where(images.c.index_digest.is_(None))
        query = one.order_by(images.c.created_at.desc(), images.c.id).limit(limit)
        if organization is not None:
            query = query.where(images.c.organization == organization)
        if digest is not None:
            query = query.where(or_(images.c.digest == digest, images.c.manifest_digest == digest))
        async with self._database.read() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def layers(self, organization: str, digest: Digest) -> Sequence[ImageContent] | None:
        """Return the layers of an image in all variants, each once; None if there is no such image.

        Args:
            digest: Digest of the image, its index, its manifest or its variant.
        """
        named = (images.c.digest, images.c.index_digest, images.c.manifest_digest, images.c.zstd_digest)
        of_image = and_(
            images.c.organization == organization, or_(*(column == str(digest) for column in named))
        )
        contents = image_contents.join(images, images.c.id == image_contents.c.image_id)
        query = select(image_contents).select_from(contents).where(of_image)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = {row["digest"]: _content(row) for row in rows}
        layers = [content for content in found.values() if content.kind is ContentKind.LAYER]
        return layers if rows else None


async def _replace_variant(connection: CatalogConnection, image_id: str, zstd: StoredImage) -> None:
    of_image = image_contents.c.image_id == image_id
    only_in_it = and_(of_image, image_contents.c.variant == Variant.ZSTD.value)
    await connection.execute(delete(image_contents).where(only_in_it))
    shown = {"zstd_digest": str(zstd.digest), "zstd_bytes": zstd.size_bytes}
    await connection.execute(update(images).where(images.c.id == image_id).values(shown))


async def _enter_contents(connection: CatalogConnection, image_id: str, image: StoredImage) -> None:
    """Insert new contents of the image, and update the stored ones."""
    of_image = image_contents.c.image_id == image_id
    rows = await connection.execute(select(image_contents).where(of_image))
    known = {row["digest"]: row for row in rows.mappings()}
    last = max((row["position"] for row in known.values()), default=-1)
    added: list[dict[str, object]] = []
    changed: list[dict[str, object]] = []
    for content, variant in _members(image):
        row = known.get(str(content.digest))
        diff_id = str(content.diff_id) if content.diff_id else None
        if row is None:
            place = {"image_id": image_id, "position": last + 1 + len(added)}
            added.append(place | _values(content) | {"variant": variant, "diff_id": diff_id})
        elif image.zstd is not None or diff_id is not None:
            kept = row["variant"] if image.zstd is None else variant
            changed.append({"at": row["position"], "now": kept, "unpacked": diff_id or row["diff_id"]})
    if changed:
        change = update(image_contents).where(of_image, image_contents.c.position == bindparam("at"))
        await connection.execute(
            change.values(variant=bindparam("now"), diff_id=bindparam("unpacked")), changed
        )
    if added:
        await connection.execute(insert(image_contents), added)


def _members(image: StoredImage) -> Sequence[tuple[ImageContent, str | None]]:
    """Return all distinct contents with their variant; the variant is None if both have the content."""
    if image.zstd is None:
        return [(content, None) for content in image.contents]
    original = {content.digest for content in image.contents}
    zstd = {content.digest for content in image.zstd.contents}
    return [
        *((each, None if each.digest in zstd else Variant.ORIGINAL.value) for each in image.contents),
        *((each, Variant.ZSTD.value) for each in image.zstd.contents if each.digest not in original),
    ]


def _values(content: ImageContent) -> dict[str, object]:
    return {
        "digest": str(content.digest),
        "kind": content.kind.value,
        "media_type": content.media_type,
        "size_bytes": content.size_bytes,
    }


def _content(row: RowMapping) -> ImageContent:
    return ImageContent(
        digest=Digest.parse(row["digest"]),
        kind=ContentKind(row["kind"]),
        media_type=row["media_type"],
        size_bytes=row["size_bytes"],
        diff_id=Digest.parse(row["diff_id"]) if row["diff_id"] else None,
    )
