"""Encryption of groups' specs in the catalog (docs/keys.md, docs/adr/0061).

A spec contains a customer's environment values and commands. Each organization has one data key for them
(the table `data_keys`), wrapped with its key-encryption key. A row holds the ciphertext, and refers to the
data key. Shredding removes the reference and the data key, so the spec is lost for good.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from cachetools import TTLCache
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Row, RowMapping, insert, select
from sqlalchemy.exc import IntegrityError

from registry.catalog.engine.database import Database
from registry.catalog.tables import data_keys
from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.ports import KeyProvider

LOST: Final[Mapping[str, Any]] = {
    "replicas": 0,
    "restart_policy": "never",
    "container": {"resources": {"cpu": 0, "memory": 0}},
}
"""The spec of a group whose organization was shredded: only the members that responses must have."""

_NONCE_BYTES: Final = 12
_CACHED_KEYS: Final = 1024
_CACHE_S: Final = 300.0
_KEY_TIMEOUT_S: Final = 10.0


class SpecCipher:
    """Seals and opens specs with their organizations' data keys. Caches the data keys for five minutes."""

    def __init__(self, database: Database, keys: KeyProvider) -> None:
        self._database = database
        self._keys = keys
        self._ciphers: TTLCache[tuple[str, str, bytes], AESGCM] = TTLCache(_CACHED_KEYS, _CACHE_S)

    async def seal(self, organization: str, group_id: str, spec: Mapping[str, Any]) -> dict[str, object]:
        """Return the columns `spec_key` and `sealed_spec`. Creates the organization's first data key.

        Storing them violates a foreign key if the organization is shredded in between.

        Raises:
            KeyUnavailableError: The key provider does not answer.
        """
        row = await self._data_key(organization) or await self._create_data_key(organization)
        cipher, nonce = await self._cipher(row.id, row.kek_id, row.wrapped_dek), os.urandom(_NONCE_BYTES)
        plaintext = json.dumps(spec, separators=(",", ":")).encode()
        return {"spec_key": row.id, "sealed_spec": nonce + cipher.encrypt(nonce, plaintext, _aad(group_id))}

    async def open(self, group_id: str, row: RowMapping) -> Mapping[str, Any] | None:
        """Return the spec in a row with the columns of `SEALED`; None if it was never stored, or is lost.

        Raises:
            BlobDamagedError: The row was changed by other means.
            KeyUnavailableError: The key provider does not answer.
        """
        if row["spec_key"] is None:
            return None
        cipher = await self._cipher(row["spec_key"], row["kek_id"], row["wrapped_dek"])
        sealed: bytes = row["sealed_spec"]
        try:
            plaintext = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _aad(group_id))
        except (InvalidTag, ValueError):
            raise BlobDamagedError("a group's spec does not authenticate") from None
        spec: dict[str, Any] = json.loads(plaintext)
        return spec

    async def _data_key(self, organization: str) -> Row[tuple[str, str, str, bytes]] | None:
        query = select(data_keys).where(data_keys.c.organization == organization)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first()

    async def _create_data_key(self, organization: str) -> Row[tuple[str, str, str, bytes]]:
        key_id, key = str(uuid4()), AESGCM.generate_key(256)
        async with _time_limit():
            kek_id = await self._keys.current_id(organization)
            wrapped = await self._keys.wrap(kek_id, key, data_key_aad(key_id))
        values = {"id": key_id, "organization": organization, "kek_id": kek_id, "wrapped_dek": wrapped}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(data_keys).values(values))
        except IntegrityError:
            pass  # another request or process created it at the same moment
        created = await self._data_key(organization)
        if created is None:
            raise KeyUnavailableError("the organization's keys were destroyed meanwhile; try again")
        return created

    async def _cipher(self, key_id: str, kek_id: str, wrapped: bytes) -> AESGCM:
        name = (key_id, kek_id, wrapped)
        cipher: AESGCM | None = self._ciphers.get(name)
        if cipher is None:
            async with _time_limit():
                key = await self._keys.unwrap(kek_id, wrapped, data_key_aad(key_id))
            cipher = self._ciphers[name] = AESGCM(key)
        return cipher


SEALED: Final = (data_keys.c.kek_id, data_keys.c.wrapped_dek)
"""Columns that `SpecCipher.open` needs beside `spec_key` and `sealed_spec`."""


def data_key_aad(key_id: str) -> bytes:
    """Return the associated data of a wrapped data key."""
    return b"crisper-data-key|" + key_id.encode()


def _aad(group_id: str) -> bytes:
    return b"crisper-spec|" + group_id.encode()


@asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_KEY_TIMEOUT_S):
            yield
    except TimeoutError:
        raise KeyUnavailableError("the key provider did not answer in time: check its state") from None
