"""The table `organizations`."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import api_keys, organizations
from registry.errors import ConflictError
from registry.model.api_keys import ApiKey
from registry.model.organizations import Organization


class SqlOrganizationDirectory:
    """The table `organizations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        organization: Organization,
        *recorded: AuditEvent,
        first_key: tuple[ApiKey, bytes] | None = None,
    ) -> None:
        """Insert an organization and its first key with the key's hash. Raises ConflictError: name taken."""
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(organizations).values(asdict(organization)))
                if first_key is not None:
                    key, key_hash = first_key
                    await connection.execute(insert(api_keys).values(**asdict(key), key_hash=key_hash))
                await append(connection, organization.created_at, *recorded)
        except IntegrityError as error:
            raise ConflictError(f"an organization named {organization.name!r} already exists") from error

    async def get(self, name: str) -> Organization | None:
        """Return an organization, or None."""
        async with self._database.read() as connection:
            query = select(organizations).where(organizations.c.name == name)
            row = (await connection.execute(query)).mappings().first()
        return Organization(row["name"], row["created_at"]) if row else None

    async def list(self, *, after: str = "", limit: int, containing: str = "") -> Sequence[Organization]:
        """Return organizations whose name contains a text, ordered by name, at most `limit` after a name."""
        name = organizations.c.name
        query = select(organizations).where(name > after).order_by(name).limit(limit)
        if containing:
            query = query.where(name.contains(containing, autoescape=True))
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [Organization(row["name"], row["created_at"]) for row in rows.mappings()]
