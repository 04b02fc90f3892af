"""Who may speak to us: organizations and nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from auth.batches import Batches
from auth.ports import Binding, Clock, Node
from registry.access_ports import ApiKey
from registry.catalog.database import Database
from registry.catalog.plain import PlainSelect
from registry.catalog.tables import NODE_ID_CHARS, api_keys, nodes, organizations, storable
from registry.errors import ConflictError
from registry.ports import Organization

_LOOKUPS_PACE_S = 0.006  # docs/adr/0049-synchronous-sqlite-in-threads.md
_BY_ID = PlainSelect(nodes, nodes.c.node_id)


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


class SqlApiKeyDirectory:
    """The table `api_keys`. A revoked key stays listed, so that its owner sees what became of it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, key: ApiKey, key_hash: bytes, *, limit: int) -> None:
        """Insert. Raises ConflictError: the organization has `limit` keys in use."""
        of_owner = and_(api_keys.c.organization == key.organization, api_keys.c.revoked_at.is_(None))
        owner = select(organizations.c.name).where(organizations.c.name == key.organization)
        async with self._database.write() as connection:
            await connection.execute(owner.with_for_update())
            in_use = await connection.execute(select(func.count()).select_from(api_keys).where(of_owner))
            if in_use.scalar_one() >= limit:
                raise ConflictError(f"the organization has {limit} keys in use; revoke one first")
            await connection.execute(insert(api_keys).values(**asdict(key), key_hash=key_hash))

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key that has this hash, unless it is revoked."""
        found = await self._where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
        return found[0] if found else None

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, oldest first, revoked ones included."""
        return await self._where(api_keys.c.organization == organization)

    async def revoke(self, organization: str, key_id: str) -> bool:
        """Revoke a key from now on. False when there is none."""
        named = and_(api_keys.c.organization == organization, api_keys.c.key_id == key_id)
        change = update(api_keys).where(named, api_keys.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            await connection.execute(change.values(revoked_at=self._clock.now()))
            return (await connection.execute(select(api_keys.c.key_id).where(named))).first() is not None

    async def _where(self, *conditions: ColumnElement[bool]) -> Sequence[ApiKey]:
        shown = (column for column in api_keys.c if column.name != "key_hash")
        query = select(*shown).where(*conditions).order_by(api_keys.c.created_at, api_keys.c.key_id)
        async with self._database.read() as connection:
            return [ApiKey(**row) for row in (await connection.execute(query)).mappings()]


class SqlNodeRegistry:
    """The table `nodes`. A node is never removed, so that its id cannot come back as another machine."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # Those who look up together go on together, through the ledger and the audit trail.
        self._lookups: Batches[str, Node | None] = Batches(self._look_up, pace_s=_LOOKUPS_PACE_S)

    async def get(self, node_id: str) -> Node | None:
        """Return a node, struck off or not; lookups of one moment share a query."""
        if storable(node_id, NODE_ID_CHARS) != node_id:
            return None  # nobody is called so, and it would spoil the others' query
        return await self._lookups.do(node_id)

    async def add(self, node: Node) -> None:
        """Insert. Raises ConflictError: the id was used before."""
        values = {
            "node_id": node.node_id,
            "binding": node.binding.value,
            "secret_hash": node.secret_hash,
            "networks": [str(network) for network in node.networks],
            "created_at": self._clock.now(),
            "revoked_at": node.revoked_at,
            "reads_zstd": node.reads_zstd,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(nodes).values(values))
        except IntegrityError as error:
            raise ConflictError(f"the node id {node.node_id!r} was used before; choose another") from error

    async def revoke(self, node_id: str) -> bool:
        """Strike a node off; its id is never given out again. False when there is none."""
        change = update(nodes).where(nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            await connection.execute(change.values(revoked_at=self._clock.now()))
            known = await connection.execute(select(nodes.c.node_id).where(nodes.c.node_id == node_id))
            return known.first() is not None

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(nodes).order_by(nodes.c.node_id))).mappings().all()
        return [_node(dict(row)) for row in rows]

    async def aclose(self) -> None:
        """Wait until every lookup is answered."""
        await self._lookups.aclose()

    async def _look_up(self, node_ids: Sequence[str]) -> Sequence[Node | None]:
        rows = await self._database.select(_BY_ID, set(node_ids))
        found = {row["node_id"]: _node(row) for row in rows}
        return [found.get(node_id) for node_id in node_ids]


def _node(row: Mapping[str, Any]) -> Node:
    return Node(
        node_id=row["node_id"],
        binding=Binding(row["binding"]),
        secret_hash=row["secret_hash"],
        networks=tuple(ip_network(network) for network in row["networks"]),
        revoked_at=row["revoked_at"],
        reads_zstd=row["reads_zstd"],
    )
