"""Import quota of each organization for the last 24 hours."""

from datetime import timedelta

from sqlalchemy import delete, func, insert, select

from auth.ports import Clock
from registry.catalog.engine.database import Database
from registry.catalog.tables import import_charges
from registry.errors import PullFailedError
from registry.model.imports import ImportJob

PERIOD = timedelta(hours=24)

_GB = 1_000_000_000


class SqlImportQuota:
    """The table `import_charges`: one row for each admitted import.

    Args:
        bytes_per_day: Maximum bytes that an organization may import within 24 hours; 0 means no limit.
    """

    def __init__(self, database: Database, clock: Clock, bytes_per_day: int) -> None:
        self._database = database
        self._clock = clock
        self._bytes_per_day = bytes_per_day

    async def charge(self, job: ImportJob, size_bytes: int) -> None:
        """Charge an import's bytes to the quota, once per job, also if the job is restarted.

        Raises:
            PullFailedError: The organization's quota is used up.
        """
        if not self._bytes_per_day:
            return
        organization, now = job.key.organization, self._clock.now()
        async with self._database.write() as connection:
            await self._database.queue_up(connection)
            await connection.execute(delete(import_charges).where(import_charges.c.charged_at < now - PERIOD))
            mine = select(import_charges.c.job_id).where(import_charges.c.job_id == job.id)
            if (await connection.execute(mine)).first() is not None:
                return
            spent = select(func.coalesce(func.sum(import_charges.c.size_bytes), 0)).where(
                import_charges.c.organization == organization
            )
            if int((await connection.execute(spent)).scalar_one()) + size_bytes > self._bytes_per_day:
                raise PullFailedError(
                    f"the image would take the organization over the {self._bytes_per_day / _GB:.1f} GB that "
                    "it may import in 24 hours: try again later, or ask the operator for a higher quota"
                )
            charge = {"job_id": job.id, "organization": organization, "size_bytes": size_bytes}
            await connection.execute(insert(import_charges).values(**charge, charged_at=now))
