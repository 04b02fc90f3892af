"""Organizations' policies for encrypted delivery (the column `encryption` of `organizations`)."""

from sqlalchemy import select, update

from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import organizations
from registry.errors import NotFoundError
from registry.model.encryption import Encryption, policy_for


class SqlEncryptionPolicies:
    """Policies of organizations.

    Args:
        server: The policy for organizations without their own.
    """

    def __init__(self, database: Database, clock: Clock, server: Encryption) -> None:
        self._database = database
        self._clock = clock
        self._server = server

    async def show(self, organization: str) -> tuple[Encryption | None, Encryption]:
        """Return an organization's own policy, if any, and the one that applies. Raises NotFoundError."""
        async with self._database.read() as connection:
            query = select(organizations.c.encryption).where(organizations.c.name == organization)
            row = (await connection.execute(query)).first()
        if row is None:
            raise _no_such()
        own = Encryption(row.encryption) if row.encryption else None
        return own, policy_for(self._server, own)

    async def effective(self, organization: str) -> Encryption:
        """Return the policy that applies to an organization. Raises NotFoundError."""
        _, effective = await self.show(organization)
        return effective

    async def set(self, organization: str, policy: Encryption | None, *, source: str) -> None:
        """Set or remove an organization's own policy, with the event. Raises NotFoundError."""
        value = policy.value if policy else None
        event = AuditEvent(
            RegistryEventType.ENCRYPTION_CHANGED, organization, source=source, detail={"encryption": value}
        )
        change = update(organizations).where(organizations.c.name == organization).values(encryption=value)
        async with self._database.write() as connection:
            if (await connection.execute(change)).rowcount != 1:
                raise _no_such()
            await append(connection, self._clock.now(), event)


def _no_such() -> NotFoundError:
    return NotFoundError("the organization does not exist")
