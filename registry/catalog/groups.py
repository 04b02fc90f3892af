"""Container groups and the images of their versions (implements `registry.model.groups.GroupCatalog`)."""

from collections.abc import Sequence
from itertools import accumulate, chain

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    Update,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from auth.ports import Clock
from registry.catalog.engine.database import CatalogConnection, Database, exclude_collection
from registry.catalog.events import append
from registry.catalog.group_rows import (
    GROUP,
    GROUP_WITH_SPEC,
    counted_values,
    group_of,
    group_values,
    lock_group,
    named,
)
from registry.catalog.images import load_image
from registry.catalog.quotas import SqlQuotas
from registry.catalog.specs import LOST, SpecCipher
from registry.catalog.tables import (
    groups,
    image_platforms,
    images,
    jobs,
    versions,
)
from registry.catalog.versions import image_of_version, load_version, store_version
from registry.errors import ConflictError
from registry.model.groups import Cursor, Group, GroupKey, GroupStatus, GroupTransition
from registry.model.images import StoredImage
from registry.model.versions import StoredVersion
from storage.digest import Digest
from storage.errors import KeyUnavailableError

_DIGESTS = ("digest", "manifest_digest", "index_digest", "zstd_digest")
"""Columns of `images` with the digests by which sessions name an image."""


class SqlGroupCatalog:
    """The tables `groups`, `versions`, `images` and `image_contents`.

    Args:
        specs: Encrypts specs, which are never stored as plaintext.
        quotas: Quotas that new and changed groups must keep.
    """

    def __init__(
        self, database: Database, clock: Clock, specs: SpecCipher, quotas: SqlQuotas | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._specs = specs
        self._quotas = quotas or SqlQuotas(database, clock)

    async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:
        """Insert a group, its import job and its event in one transaction.

        Raises:
            ConflictError: The name is taken.
            QuotaExceededError: The organization has too many groups or replicas.
            KeyUnavailableError: The spec could not be encrypted.
        """
        group = created.group
        sealed = await self._specs.seal(group.key.organization, group.id, group.spec)
        try:
            async with self._database.write() as connection:
                await self._quotas.check_group(connection, group, None)
                await connection.execute(
                    insert(groups).values(group_values(group) | counted_values(group) | sealed)
                )
                await _queue(connection, group, credential_key)
                await append(connection, group.created_at, created.event)
        except IntegrityError as error:
            if await self.get(group.key, with_spec=False) is None:
                raise KeyUnavailableError("the organization was shredded meanwhile; try again") from None
            raise ConflictError(
                f"a container group named {group.key.name!r} exists in this project; choose another name"
            ) from error

    async def change(
        self, before: Group, changed: GroupTransition, credential_key: bytes | None = None
    ) -> bool:
        """Write a group's change with its event, and queue its new import if `job_id` names another.

        An import that the group no longer waits for ends with it: its worker finds its job gone. Returns
        False if the group is no longer as it was `before`, or the version `image_of` is no longer stored:
        nothing was written.

        Raises:
            QuotaExceededError: The organization has too many replicas.
        """
        after = changed.group
        as_read = and_(
            groups.c.id == before.id,
            groups.c.revision == before.revision,
            groups.c.status == before.status.value,
            groups.c.status_since == before.status_since,
            groups.c.resume_status.is_not_distinct_from(before.resume_status),
        )
        values = group_values(after)
        if after.spec is not before.spec:
            values |= await self._specs.seal(after.key.organization, after.id, after.spec)
            values |= counted_values(after)
        write = update(groups).where(as_read).values(values)
        try:
            async with self._database.write() as connection:
                if after.spec is not before.spec:
                    await self._quotas.check_group(connection, after, before)
                return await _change(connection, before, changed, write, credential_key)
        except IntegrityError:
            if after.spec is before.spec:
                raise
            return False  # the organization was shredded after the spec was encrypted

    async def get(self, key: GroupKey, *, with_spec: bool = True) -> Group | None:
        """Return a group by name. Without the spec, no key is needed."""
        query = GROUP_WITH_SPEC if with_spec else GROUP
        async with self._database.read() as connection:
            row = (await connection.execute(query.where(named(key)))).mappings().first()
        if row is None:
            return None
        return await self._open(row) if with_spec else group_of(row)

    async def page(
        self, organization: str, project: str, *, after: Cursor | None = None, limit: int, max_spec_bytes: int
    ) -> tuple[Sequence[Group], bool]:
        """Return a page of a project's groups, and whether there are more (see `GroupCatalog.page`)."""
        query = select(groups.c.id, groups.c.spec_bytes).where(
            groups.c.organization == organization, groups.c.project == project
        )
        if after is not None:
            at, last_id = after
            same = and_(groups.c.created_at == at, groups.c.id > last_id)
            query = query.where(or_(groups.c.created_at > at, same))
        order = (groups.c.created_at, groups.c.id)
        async with self._database.read() as connection:
            found = (await connection.execute(query.order_by(*order).limit(limit + 1))).all()
            sizes = accumulate(size_bytes for _, size_bytes in found)
            fitting = max(1, sum(total <= max_spec_bytes for total in sizes))
            chosen = [group_id for group_id, _ in found[: min(fitting, limit)]]
            stored = await connection.execute(GROUP_WITH_SPEC.where(groups.c.id.in_(chosen)).order_by(*order))
            rows = stored.mappings().all()
        return [await self._open(row) for row in rows], len(found) > len(chosen)

    async def delete(self, key: GroupKey, *, source: str | None = None) -> Group | None:
        """Remove a group with its job and versions, and write the event. Returns the group, or None."""
        async with self._database.write() as connection:
            group = await lock_group(connection, named(key))
            if group is None:
                return None
            now = self._clock.now()
            caches = select(groups.c.image_caching).where(groups.c.id == group.id)
            if (await connection.execute(caches)).scalar():
                used = select(versions.c.image_id).where(versions.c.group_id == group.id)
                await connection.execute(update(images).where(images.c.id.in_(used)).values(cached_at=now))
            await connection.execute(delete(groups).where(groups.c.id == group.id))
            await append(connection, now, group.delete(source=source))
        return group

    async def versions(self, group_id: str) -> Sequence[int]:
        """Return the numbers of the stored versions, the newest first."""
        query = select(versions.c.version).where(versions.c.group_id == group_id)
        async with self._database.read() as connection:
            return (await connection.execute(query.order_by(versions.c.version.desc()))).scalars().all()

    async def version(self, group_id: str, version: int) -> StoredVersion | None:
        """Return a stored version."""
        async with self._database.read() as connection:
            return await load_version(connection, self._specs, group_id, version)

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version, or None if it is not stored."""
        return await self._image(
            _image_of_version().where(versions.c.group_id == group_id, versions.c.version == version)
        )

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return the image or variant of a repository with the digest of a token's `img` claim."""
        part = images.alias("part")
        of_part = image_platforms.join(part, part.c.id == image_platforms.c.platform_image_id)
        in_part = select(1).select_from(of_part).where(image_platforms.c.image_id == images.c.id)
        named = or_(_isnamed(images, digest), exists(in_part.where(_isnamed(part, digest)).correlate(images)))
        query = _image_of_version().where(versions.c.repository == repository, named).distinct()
        wanted = Digest.parse(digest)

        def load(connection: Connection) -> StoredImage | None:
            for row in connection.execute(query).all():
                image = load_image(connection, row.id).of_session(wanted)
                if image is not None:
                    return image
            return None

        async with self._database.read() as connection:
            return await connection.run_sync(load)

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests by which sessions name a stored version's image; empty if there is none."""
        part = images.alias("part")
        query = (
            select(*(table.c[name] for table in (images, part) for name in _DIGESTS))
            .join(versions, versions.c.image_id == images.c.id)
            .outerjoin(image_platforms, image_platforms.c.image_id == images.c.id)
            .outerjoin(part, part.c.id == image_platforms.c.platform_image_id)
            .where(versions.c.repository == repository, versions.c.version == version)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Digest.parse(digest) for digest in dict.fromkeys(chain(*rows)) if digest]

    async def tags(self, repository: str) -> Sequence[str]:
        """Return the tags `latest` and `v<version>` of all stored versions, sorted by bytes."""
        query = select(versions.c.version).where(versions.c.repository == repository)
        async with self._database.read() as connection:
            numbers = (await connection.execute(query)).scalars().all()
        return sorted(["latest", *(f"v{number}" for number in numbers)]) if numbers else []

    async def _open(self, row: RowMapping) -> Group:
        """Return the group from a row of `GROUP_WITH_SPEC`."""
        spec = await self._specs.open(row["id"], row)
        return group_of(row, LOST if spec is None else spec)

    async def _image(self, query: Select[tuple[str]]) -> StoredImage | None:
        def load(connection: Connection) -> StoredImage | None:
            row = connection.execute(query).first()
            return load_image(connection, row.id) if row else None

        async with self._database.read() as connection:
            return await connection.run_sync(load)


async def _change(
    connection: CatalogConnection,
    before: Group,
    changed: GroupTransition,
    write: Update,
    credential_key: bytes | None,
) -> bool:
    after, now = changed.group, changed.group.updated_at
    image_id = None
    if changed.image_of is not None:
        await connection.run_sync(exclude_collection)  # the image stays if its version is removed
        image_id = await image_of_version(connection, after.id, changed.image_of)
        if image_id is None:
            return False
    if (await connection.execute(write)).rowcount != 1:
        return False
    if image_id is not None:
        await store_version(connection, after, image_id, now)
    renewed = after.job_id != before.job_id
    if renewed or after.status is not before.status is GroupStatus.PENDING:
        unfinished = and_(jobs.c.group_id == before.id, jobs.c.state.in_(("queued", "running")))
        await connection.execute(delete(jobs).where(unfinished))
    if renewed:
        await _queue(connection, after, credential_key)
    await append(connection, now, changed.event)
    return True


async def _queue(connection: CatalogConnection, group: Group, credential_key: bytes | None) -> None:
    job = {"id": group.job_id, "group_id": group.id, "version": group.version, "image": group.image}
    used = credential_key is not None
    waiting = {"state": "queued", "attempt": 0, "credential_key": credential_key, "with_credentials": used}
    await connection.execute(insert(jobs).values(**job, **waiting, created_at=group.updated_at))


def _image_of_version() -> Select[tuple[str]]:
    return select(images.c.id).join(versions, versions.c.image_id == images.c.id)


def _isnamed(table: FromClause, digest: str) -> ColumnElement[bool]:
    return or_(*(table.c[name] == digest for name in _DIGESTS))
