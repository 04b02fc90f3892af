"""Quotas of imports: size of an image, bytes within 24 hours, bytes in storage."""

from typing import Final

from sqlalchemy import delete, func, insert, select

from auth.ports import Clock
from registry.catalog.engine.database import Database
from registry.catalog.quotas import IMPORT_PERIOD, SqlQuotas
from registry.catalog.tables import blob_keys, import_charges, jobs
from registry.errors import PullFailedError, StoreFailedError
from registry.model.imports import ImportJob

_GB: Final = 1_000_000_000
_ADVICE: Final = "or ask the operator for a higher quota"


class SqlImportQuota:
    """The table `import_charges`: one row for each admitted import."""

    def __init__(self, database: Database, clock: Clock, quotas: SqlQuotas) -> None:
        self._database = database
        self._clock = clock
        self._quotas = quotas

    async def max_image_bytes(self, organization: str) -> int:
        """Return the limit on an image's compressed size; 0 is no limit."""
        return (await self._quotas.of(organization)).image_bytes

    async def charge(self, job: ImportJob, size_bytes: int) -> None:
        """Charge an import's bytes to the quotas, once per job, also if the job is restarted.

        Running imports count for storage with all their bytes, because they do not store them at once.

        Raises:
            PullFailedError: The organization's quota of imported bytes is used up.
            StoreFailedError: The organization's quota of stored bytes is used up.
        """
        organization, now = job.key.organization, self._clock.now()
        limits = await self._quotas.of(organization)
        charged = func.coalesce(func.sum(import_charges.c.size_bytes), 0)
        mine = import_charges.c.organization == organization
        running = import_charges.join(jobs, jobs.c.id == import_charges.c.job_id)
        stored = select(func.coalesce(func.sum(blob_keys.c.stored_bytes), 0))
        async with self._database.write() as connection:
            await self._database.queue_up(connection)
            over = import_charges.c.charged_at < now - IMPORT_PERIOD
            await connection.execute(delete(import_charges).where(over))
            known = select(import_charges.c.job_id).where(import_charges.c.job_id == job.id)
            if (await connection.execute(known)).first() is not None:
                return
            if limits.import_bytes_per_day:
                today = int((await connection.execute(select(charged).where(mine))).scalar_one())
                if today + size_bytes > limits.import_bytes_per_day:
                    raise PullFailedError(
                        "the image would take the organization over the "
                        f"{limits.import_bytes_per_day / _GB:.1f} GB that it may import in 24 hours: "
                        f"try again later, {_ADVICE}"
                    )
            if limits.stored_bytes:
                arriving = select(charged).select_from(running).where(mine, jobs.c.state == "running")
                parts = (stored.where(blob_keys.c.tenant == organization), arriving)
                used = sum([int((await connection.execute(part)).scalar_one()) for part in parts])
                if used + size_bytes > limits.stored_bytes:
                    raise StoreFailedError(
                        f"the image would take the organization over the {limits.stored_bytes / _GB:.1f} GB "
                        f"that it may store: delete groups that are not needed, {_ADVICE}"
                    )
            charge = {"job_id": job.id, "organization": organization, "size_bytes": size_bytes}
            await connection.execute(insert(import_charges).values(**charge, charged_at=now))
