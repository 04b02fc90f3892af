"""Liveness of key records and objects, for garbage collection.

Implements `storage.upkeep.catalog.CollectionCatalog` and `registry.model.imports.BlobPins`.

A key record is live if its blob belongs to the image of a version or to a cached image, or if an unfinished
import pins the blob.
A transaction that makes a record live and a transaction that adds tombstones never run at the same time.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

from auth.ports import Clock
from registry.catalog.engine.database import CatalogConnection, Database, exclude_collection
from registry.catalog.key_records import record_of, uses_object
from registry.catalog.partials import SqlPartials
from registry.catalog.tables import (
    UtcDateTime,
    blob_keys,
    blob_origins,
    blob_pins,
    groups,
    image_contents,
    image_platforms,
    images,
    jobs,
    object_marks,
    quarantine,
    record_marks,
    retired_keys,
    versions,
)
from registry.catalog.versions import has_version
from storage.digest import Digest
from storage.records import KeyRecord

_TOMBSTONE = timedelta(days=7)
_SUPERSEDED = timedelta(hours=26)  # longer than the lifetime of a token and its session together
_UNFINISHED = ("queued", "running")


class SqlBlobPins:
    """The table `blob_pins`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pin(self, job_id: str, organization: str, digests: Sequence[Digest]) -> None:
        """Pin blobs of the organization until the job ends, including blobs that are not stored yet."""
        async with self._database.write() as connection:
            await connection.run_sync(exclude_collection)
            job = await connection.execute(select(jobs.c.id).where(jobs.c.id == job_id))
            if job.first() is None:
                return  # its group was deleted; the worker's next heartbeat ends the import
            known = select(blob_pins.c.digest).where(blob_pins.c.job_id == job_id)
            pinned = set((await connection.execute(known)).scalars())
            wanted = dict.fromkeys(str(digest) for digest in digests)
            rows = [
                {"job_id": job_id, "digest": digest, "organization": organization}
                for digest in wanted
                if digest not in pinned
            ]
            if rows:
                await connection.execute(insert(blob_pins), rows)


class SqlCollection:
    """The tables of references to key records and objects, and the marks on unreferenced ones.

    Args:
        cache_s: Seconds for which an image stays after its last group with `image_caching` stopped using it.
    """

    def __init__(self, database: Database, clock: Clock, cache_s: float = 0) -> None:
        self._database = database
        self._clock = clock
        self._cache = timedelta(seconds=cache_s)

    async def unknown(self, names: Sequence[str]) -> Sequence[str]:
        """Return the objects without a key record."""
        async with self._database.read() as connection:
            known = await _used(connection, names)
        return [name for name in names if name not in known]

    async def mark(self, orphans: Sequence[str]) -> None:
        """Mark records and objects that became unreferenced, and unmark those that are referenced again."""
        now = self._clock.now()
        async with self._database.write() as connection:
            await self._database.collect_alone(connection)
            await connection.execute(delete(record_marks).where(not_(self._record_is_dead())))
            await connection.execute(self._mark_records(now))
            await connection.execute(
                delete(object_marks).where(object_marks.c.condemned_at.is_(None), not_(_is_orphan()))
            )
            marked = set((await connection.execute(select(object_marks.c.object_name))).scalars())
            rows = [{"object_name": name, "since": now} for name in orphans if name not in marked]
            if rows:
                await connection.execute(insert(object_marks), rows)
            forgotten = object_marks.c.removed_at < now - _TOMBSTONE
            await connection.execute(delete(object_marks).where(forgotten))

    async def marked(self) -> tuple[int, int]:
        """Count the marked records and objects."""
        async with self._database.read() as connection:
            records = select(func.count()).select_from(record_marks)
            objects = select(func.count()).select_from(object_marks)
            waiting = objects.where(object_marks.c.condemned_at.is_(None))
            return (
                int((await connection.execute(records)).scalar_one()),
                int((await connection.execute(waiting)).scalar_one()),
            )

    async def due_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:
        """Return dead records that have been marked for `grace_s`."""
        async with self._database.read() as connection:
            return await self._due_records(connection, grace_s, limit)

    async def due_orphans(self, grace_s: float, limit: int) -> Sequence[str]:
        """Return objects without a record that have been marked for `grace_s`."""
        async with self._database.read() as connection:
            return await self._due_orphans(connection, grace_s, limit)

    async def remove_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:
        """Remove due records, and add tombstones for objects without another record. Returns the records."""
        async with self._database.write() as connection:
            await self._database.collect_alone(connection)
            await self._remove_retired(connection)
            due = await self._due_records(connection, grace_s, limit)
            for record in due:
                await connection.execute(
                    delete(blob_keys).where(
                        blob_keys.c.tenant == record.tenant,
                        blob_keys.c.digest == str(record.digest),
                        blob_keys.c.object_name == record.object_name,
                    )
                )
                await connection.execute(
                    delete(record_marks).where(
                        record_marks.c.tenant == record.tenant, record_marks.c.digest == str(record.digest)
                    )
                )
            await self._add_tombstones(
                connection, sorted({name for record in due for name in record.objects})
            )
        return due

    async def _remove_retired(self, connection: CatalogConnection) -> None:
        """Remove replaced keys that no session can use any more, with tombstones for their objects."""
        over = retired_keys.c.retired_at <= self._clock.now() - _SUPERSEDED
        rows = (await connection.execute(select(*_object_names(retired_keys)).where(over))).all()
        await connection.execute(delete(retired_keys).where(over))
        await self._add_tombstones(connection, sorted({name for row in rows for name in row}))

    async def tombstone_orphans(self, grace_s: float, limit: int) -> int:
        """Add tombstones for due orphans. Returns their number."""
        async with self._database.write() as connection:
            await self._database.collect_alone(connection)
            names = await self._due_orphans(connection, grace_s, limit)
            await self._add_tombstones(connection, names)
        return len(names)

    async def tombstones(self, limit: int) -> Sequence[str]:
        """Return objects with a tombstone whose removal is not recorded yet."""
        left = and_(object_marks.c.condemned_at.is_not(None), object_marks.c.removed_at.is_(None))
        query = select(object_marks.c.object_name).where(left).limit(limit)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def record_removal(self, names: Sequence[str]) -> None:
        """Record the removal of objects. For a week, no new key record can name them."""
        async with self._database.write() as connection:
            named = object_marks.c.object_name.in_(names)
            await connection.execute(update(object_marks).where(named).values(removed_at=self._clock.now()))
            await connection.execute(delete(quarantine).where(quarantine.c.object_name.in_(names)))

    async def partials(self) -> Collection[str]:
        """Delete records of unfinished containers that no import needs. Returns the other object names."""
        return await SqlPartials(self._database, self._clock).wanted()

    async def remove_images(self) -> int:
        """Remove superseded versions, images without a version, and origins of blobs that no tenant has.

        A version is removed when its successor has been stored for longer than any token for it can live.

        Returns:
            Number of removed images.
        """
        superseded = self._superseded()
        cached = (
            select(versions.c.image_id)
            .join(groups, groups.c.id == versions.c.group_id)
            .where(superseded, groups.c.image_caching)
        )
        async with self._database.write() as connection:
            await self._database.collect_alone(connection)
            stamp = update(images).where(images.c.id.in_(cached)).values(cached_at=self._clock.now())
            await connection.execute(stamp)
            await connection.execute(delete(versions).where(superseded))
            is_part = exists().where(image_platforms.c.platform_image_id == images.c.id)
            unused = delete(images).where(not_(self._is_kept()))
            whole = await connection.execute(unused.where(not_(is_part)))
            parts = await connection.execute(unused)
            nobodys = not_(exists().where(blob_keys.c.digest == blob_origins.c.digest))
            await connection.execute(delete(blob_origins).where(nobodys))
            return whole.rowcount + parts.rowcount

    def _superseded(self) -> ColumnElement[bool]:
        newer = versions.alias("newer")
        stored_before = self._clock.now() - _SUPERSEDED
        return exists().where(
            newer.c.group_id == versions.c.group_id,
            newer.c.version > versions.c.version,
            newer.c.created_at <= stored_before,
        )

    def _is_kept(self) -> ColumnElement[bool]:
        """Return the condition that an image belongs to a version, or is cached."""
        since, whole = self._clock.now() - self._cache, images.alias("whole")
        is_cached = and_(images.c.cached_at.is_not(None), images.c.cached_at > since)
        parts = image_platforms.join(whole, whole.c.id == image_platforms.c.image_id)
        of_cached = (
            select(1)
            .select_from(parts)
            .where(image_platforms.c.platform_image_id == images.c.id, whole.c.cached_at > since)
        )
        return or_(has_version(), is_cached, exists(of_cached.correlate(images)))

    def _is_live(self) -> ColumnElement[bool]:
        """Return the condition that a kept image contains the blob of a key record."""
        contents = image_contents.join(images, images.c.id == image_contents.c.image_id)
        of_tenant = images.c.organization == blob_keys.c.tenant
        same = and_(of_tenant, image_contents.c.digest == blob_keys.c.digest)
        return exists(select(1).select_from(contents).where(same, self._is_kept()).correlate(blob_keys))

    def _record_is_dead(self) -> ColumnElement[bool]:
        """Return the condition that the record of a mark exists and is dead."""
        unused = and_(not_(self._is_live()), not_(_is_pinned()))
        dead = select(1).select_from(blob_keys).where(_of_record(), unused)
        return exists(dead.correlate(record_marks))

    def _mark_records(self, now: datetime) -> Insert:
        marked = exists().where(_of_record())
        dead: Select[tuple[str, str, datetime]] = select(
            blob_keys.c.tenant, blob_keys.c.digest, literal(now, UtcDateTime).label("since")
        ).where(not_(self._is_live()), not_(_is_pinned()), not_(marked))
        return insert(record_marks).from_select(["tenant", "digest", "since"], dead)

    async def _due_records(
        self, connection: CatalogConnection, grace_s: float, limit: int
    ) -> Sequence[KeyRecord]:
        before = self._clock.now() - timedelta(seconds=grace_s)
        alive = or_(self._is_live(), _is_pinned(), _older_import())
        due = and_(record_marks.c.since <= before, not_(alive))
        query = select(blob_keys).join(record_marks, _of_record()).where(due).limit(limit)
        return [record_of(row) for row in (await connection.execute(query)).mappings()]

    async def _due_orphans(self, connection: CatalogConnection, grace_s: float, limit: int) -> Sequence[str]:
        before = self._clock.now() - timedelta(seconds=grace_s)
        query = select(object_marks.c.object_name).where(
            object_marks.c.condemned_at.is_(None), object_marks.c.since <= before, _is_orphan()
        )
        return list((await connection.execute(query.limit(limit))).scalars())

    async def _add_tombstones(self, connection: CatalogConnection, names: Sequence[str]) -> None:
        """Add tombstones for those of the objects that have no record."""
        now = self._clock.now()
        unused = sorted(set(names) - await _used(connection, names))
        if not unused:
            return
        await connection.execute(delete(object_marks).where(object_marks.c.object_name.in_(unused)))
        rows = [{"object_name": name, "since": now, "condemned_at": now} for name in unused]
        await connection.execute(insert(object_marks), rows)


def _is_pinned() -> ColumnElement[bool]:
    """Return the condition that an unfinished import has pinned the blob of a key record."""
    of_jobs = blob_pins.join(jobs, jobs.c.id == blob_pins.c.job_id)
    same = and_(blob_pins.c.organization == blob_keys.c.tenant, blob_pins.c.digest == blob_keys.c.digest)
    running = select(1).select_from(of_jobs).where(same, jobs.c.state.in_(_UNFINISHED))
    return exists(running.correlate(blob_keys))


def _older_import() -> ColumnElement[bool]:
    """Return the condition that an older import of the tenant runs: it may have stored the blob."""
    of_groups = jobs.join(groups, groups.c.id == jobs.c.group_id)
    older = and_(groups.c.organization == blob_keys.c.tenant, jobs.c.created_at <= record_marks.c.since)
    running = select(1).select_from(of_groups).where(older, jobs.c.state == "running")
    return exists(running.correlate(blob_keys, record_marks))


def _is_orphan() -> ColumnElement[bool]:
    name = object_marks.c.object_name
    used = (exists().where(uses_object(table, name)) for table in (blob_keys, retired_keys))
    return not_(or_(*used))


def _object_names(table: Table) -> Sequence[ColumnElement[str]]:
    return table.c.object_name, table.c.sidecar_name


async def _used(connection: CatalogConnection, names: Sequence[str]) -> set[str]:
    """Return those of the objects that a key record refers to."""
    used: set[str] = set()
    columns = [column for table in (blob_keys, retired_keys) for column in _object_names(table)]
    for column in columns:
        used.update((await connection.execute(select(column).where(column.in_(names)))).scalars())
    return used


def _of_record() -> ColumnElement[bool]:
    return and_(record_marks.c.tenant == blob_keys.c.tenant, record_marks.c.digest == blob_keys.c.digest)
