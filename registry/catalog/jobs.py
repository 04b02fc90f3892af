"""Queue of import jobs (implements `registry.model.imports.JobQueue`).

The jobs table is the queue: a job and its group change in one transaction, so that they are always
consistent (docs/adr/0001-jobs-in-the-catalog.md).

    queued ──claim──> running ──succeed──> done
      ^                 │  ^ └──fail────> failed
      └──────defer──────┘  │
                        claim again, after the lease has expired

Organizations share the workers: jobs of the organization with the fewest running imports are claimed first
(docs/adr/0057-share-import-workers-between-organizations.md).
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, update

from auth.ports import Clock
from registry.catalog.engine.database import CatalogConnection, Database, exclude_collection
from registry.catalog.events import append
from registry.catalog.group_rows import lock_group, store_group
from registry.catalog.images import enter_image
from registry.catalog.quotas import SqlQuotas
from registry.catalog.tables import blob_pins, groups, jobs, organizations
from registry.catalog.versions import store_version
from registry.model.groups import Group, GroupKey, GroupTransition
from registry.model.images import StoredImage
from registry.model.imports import ImportJob, ImportReport
from registry.model.quotas import UNLIMITED
from registry.oci.platform import Platform


class SqlJobQueue:
    """Queue in the table `jobs`.

    Args:
        quotas: Quotas of concurrent imports. Excess jobs wait, and jobs of other organizations overtake them.
    """

    def __init__(self, database: Database, clock: Clock, quotas: SqlQuotas | None = None) -> None:
        self._database = database
        self._clock = clock
        self._quotas = quotas

    async def claim(self, worker_id: str, lease_s: float, excluded: Collection[str] = ()) -> ImportJob | None:
        """Lease a job that has no lease, of the organization with the fewest running imports.

        Args:
            excluded: Organizations whose jobs must wait.

        Returns:
            The job; None if there is none.
        """
        now = self._clock.now()
        query = self._free(now, excluded).limit(1)
        if not await self._has_work(query):
            return None
        async with self._database.write() as connection:
            if self._quotas is not None:
                await self._database.queue_up(connection)
            row = (
                (await connection.execute(query.with_for_update(skip_locked=True, of=jobs)))
                .mappings()
                .first()
            )
            if row is None:
                return None
            job = ImportJob(
                id=row["id"],
                group_id=row["group_id"],
                key=GroupKey(row["organization"], row["project"], row["name"]),
                version=row["version"],
                image=row["image"],
                attempt=row["attempt"] + 1,
                credential_key=row["credential_key"],
                deferred=row["deferred_until"] is not None,
                platforms=tuple(map(Platform.parse, row["platforms"] or row["organization_platforms"] or ())),
            )
            await connection.execute(
                update(jobs)
                .where(jobs.c.id == job.id)
                .values(
                    state="running",
                    attempt=job.attempt,
                    worker_id=worker_id,
                    lease_until=now + timedelta(seconds=lease_s),
                )
            )
        return job

    async def heartbeat(self, job_id: str, worker_id: str, lease_s: float) -> bool:
        """Extend the lease. Returns False if it is lost or the job is gone: stop the import at once."""
        until = self._clock.now() + timedelta(seconds=lease_s)
        held = and_(jobs.c.id == job_id, jobs.c.worker_id == worker_id, jobs.c.state == "running")
        async with self._database.write() as connection:
            result = await connection.execute(update(jobs).where(held).values(lease_until=until))
            return result.rowcount == 1

    async def held(self, worker_id: str) -> Collection[str]:
        """Return the ids of the jobs that this worker leases. It must stop all others that it runs."""
        query = select(jobs.c.id).where(jobs.c.worker_id == worker_id, jobs.c.state == "running")
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def succeed(
        self, job: ImportJob, worker_id: str, image: StoredImage, report: ImportReport | None = None
    ) -> bool:
        """Publish the image and end the job in one transaction. Returns False if the lease is lost."""
        async with self._database.write() as connection:
            await connection.run_sync(exclude_collection)  # no gap between pinned and referenced
            group, now = await self._lock(connection, job, worker_id), self._clock.now()
            facts = {**_facts(report), "since_request_s": await _age_s(connection, job, now)}
            done = group.finish_import(image, now=now, report=facts) if group else None
            if done is None:
                return False
            image_id = await enter_image(connection, job.key.organization, image, now)
            await store_version(connection, done.group, image_id, now)
            await self._end(connection, job, done, now, state="done")
        return True

    async def fail(
        self,
        job: ImportJob,
        worker_id: str,
        reason: str,
        sentence: str,
        report: ImportReport | None = None,
    ) -> bool:
        """Mark the job and its group as failed. Returns False if the lease is lost."""
        async with self._database.write() as connection:
            group, now = await self._lock(connection, job, worker_id), self._clock.now()
            facts = _facts(report)
            failed = group.fail_import(reason, sentence, now=now, report=facts) if group else None
            if failed is None:
                return False
            await self._end(connection, job, failed, now, state="failed", reason=reason, sentence=sentence)
        return True

    async def defer(self, job: ImportJob, worker_id: str, delay_s: float) -> bool:
        """Return a job to the queue, to be claimed after a delay. Returns False if the lease is lost."""
        until = self._clock.now() + timedelta(seconds=delay_s)
        held = and_(jobs.c.id == job.id, jobs.c.worker_id == worker_id, jobs.c.state == "running")
        waiting = {"state": "queued", "worker_id": None, "lease_until": None, "deferred_until": until}
        async with self._database.write() as connection:
            return (await connection.execute(update(jobs).where(held).values(**waiting))).rowcount == 1

    async def _has_work(self, query: Select[Any]) -> bool:
        # Outside a transaction, so that an idle worker does not take SQLite's write lock each second.
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    def _free(self, now: datetime, excluded: Collection[str]) -> Select[Any]:
        """Select the jobs that may be claimed, in order."""
        other, its_group = jobs.alias(), groups.alias()
        running = (
            select(its_group.c.organization, func.count().label("jobs"))
            .select_from(other.join(its_group, its_group.c.id == other.c.group_id))
            .where(other.c.state == "running", other.c.lease_until >= now)
            .group_by(its_group.c.organization)
            .subquery()
        )
        running_jobs = func.coalesce(running.c.jobs, 0)
        query = (
            select(
                jobs,
                groups.c.organization,
                groups.c.project,
                groups.c.name,
                groups.c.platforms,
                organizations.c.platforms.label("organization_platforms"),
            )
            .join(groups, groups.c.id == jobs.c.group_id)
            .outerjoin(organizations, organizations.c.name == groups.c.organization)
            .outerjoin(running, running.c.organization == groups.c.organization)
            .where(_is_free(now), groups.c.organization.not_in(excluded))
            .order_by(running_jobs, func.coalesce(jobs.c.deferred_until, jobs.c.created_at))
        )
        if self._quotas is None:
            return query
        limit = self._quotas.limit(groups.c.organization, "imports")
        return query.where(or_(limit == UNLIMITED, running_jobs < limit))

    async def _lock(self, connection: CatalogConnection, job: ImportJob, worker_id: str) -> Group | None:
        """Lock the group and the job. Return the group, or None if this worker no longer leases the job."""
        group = await lock_group(connection, groups.c.id == job.group_id)
        query = select(jobs.c.id).where(
            jobs.c.id == job.id, jobs.c.worker_id == worker_id, jobs.c.state == "running"
        )
        held = (await connection.execute(query.with_for_update())).first() is not None
        return group if held else None

    @staticmethod
    async def _end(
        connection: CatalogConnection,
        job: ImportJob,
        ended: GroupTransition,
        now: datetime,
        **outcome: str,
    ) -> None:
        released = {"finished_at": now, "lease_until": None, "credential_key": None}
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(**outcome, **released))
        await connection.execute(delete(blob_pins).where(blob_pins.c.job_id == job.id))
        await store_group(connection, ended.group)
        await append(connection, now, ended.event)


async def _age_s(connection: CatalogConnection, job: ImportJob, now: datetime) -> float:
    """Return the seconds since a job was created."""
    created_at = (await connection.execute(select(jobs.c.created_at).where(jobs.c.id == job.id))).scalar()
    return round((now - created_at).total_seconds(), 1) if created_at is not None else 0.0


def _facts(report: ImportReport | None) -> Mapping[str, object]:
    return report.facts if report is not None else {}


def _is_free(now: datetime) -> ColumnElement[bool]:
    """Return the condition under which no worker has a job, and its delay is over."""
    queued = and_(
        jobs.c.state == "queued", or_(jobs.c.deferred_until.is_(None), jobs.c.deferred_until <= now)
    )
    return or_(queued, and_(jobs.c.state == "running", jobs.c.lease_until < now))
