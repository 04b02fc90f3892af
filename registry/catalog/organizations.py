"""The table `organizations`."""

from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from registry.catalog.engine.database import Database
from registry.catalog.tables import organizations
from registry.errors import ConflictError
from registry.model.organizations import Organization


class SqlOrganizationDirectory:
    """The table `organizations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, organization: Organization) -> None:
        """Insert. Raises ConflictError: the name is taken."""
        values = {"name": organization.name, "created_at": organization.created_at}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(organizations).values(values))
        except IntegrityError as error:
            raise ConflictError(f"an organization named {organization.name!r} exists already") from error

    async def get(self, name: str) -> Organization | None:
        """Return an organization."""
        async with self._database.read() as connection:
            query = select(organizations).where(organizations.c.name == name)
            row = (await connection.execute(query)).mappings().first()
        return Organization(**row) if row else None

    async def list(self) -> Sequence[Organization]:
        """Return all organizations by name."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(organizations).order_by(organizations.c.name))
            return [Organization(**row) for row in rows.mappings()]
