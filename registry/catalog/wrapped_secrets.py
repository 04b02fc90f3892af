"""Secrets that the catalog holds, wrapped (implements `storage.records.WrappedSecrets`)."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from registry.catalog.engine.database import Database
from registry.catalog.event_chain import CHAIN_AAD, CHAIN_TENANT
from registry.catalog.specs import data_key_aad
from registry.catalog.tables import data_keys, event_chain, groups, versions, webhooks
from registry.model.webhooks import secret_aad
from storage.records import WrappedSecret


class SqlWrappedSecrets:
    """Data keys of specs, signing secrets of webhooks, and the key of the audit trail's chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[WrappedSecret]:
        """Return all secrets."""
        async with self._database.read() as connection:
            keys = (await connection.execute(select(data_keys))).all()
            hooks = (await connection.execute(select(webhooks))).all()
            chain = select(event_chain).where(event_chain.c.wrapped_key.is_not(None))
            chains = (await connection.execute(chain)).all()
        return [
            *(WrappedSecret(k.organization, k.kek_id, k.wrapped_dek, data_key_aad(k.id)) for k in keys),
            *(
                WrappedSecret(hook.organization, hook.kek_id, hook.sealed_secret, secret_aad(hook.webhook_id))
                for hook in hooks
            ),
            *(WrappedSecret(CHAIN_TENANT, each.kek_id, each.wrapped_key, CHAIN_AAD) for each in chains),
        ]

    async def replace(self, old: WrappedSecret, new: WrappedSecret) -> bool:
        """Replace a secret if it still equals the old one."""
        async with self._database.write() as connection:
            for table, wrapped in (
                (data_keys, data_keys.c.wrapped_dek),
                (webhooks, webhooks.c.sealed_secret),
                (event_chain, event_chain.c.wrapped_key),
            ):
                change = update(table).where(table.c.kek_id == old.kek_id, wrapped == old.wrapped)
                values = {"kek_id": new.kek_id, wrapped.name: new.wrapped}
                if (await connection.execute(change.values(values))).rowcount:
                    return True
        return False

    async def remove(self, tenant: str) -> None:
        """Remove an organization's specs and their data key. Its webhooks stay, with unusable secrets."""
        mine = data_keys.c.organization == tenant
        lost = {"spec_key": None, "sealed_spec": None}
        async with self._database.write() as connection:
            # The lock excludes transactions that store a reference to the key.
            key_id = (await connection.execute(select(data_keys.c.id).where(mine).with_for_update())).scalar()
            changed = {"revision": groups.c.revision + 1}
            await connection.execute(update(groups).where(groups.c.spec_key == key_id).values(lost | changed))
            await connection.execute(update(versions).where(versions.c.spec_key == key_id).values(lost))
            await connection.execute(delete(data_keys).where(mine))
