"""Key-encryption keys in AWS Key Management Service.

Each tenant has its own keys. The alias `<alias>/<tenant>` names the current one; `<alias>/<tenant>/<key id>`
names every key that the tenant ever had. A data key's associated data is the encryption context: KMS decrypts
the data key only with the same context, and records it in its audit log.
"""

import asyncio
import base64
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cachetools import TTLCache

from storage.errors import BlobDamagedError, KeyUnavailableError, StorageError
from storage.ports import KeyBinding

R = TypeVar("R")

_PREFIX = "awskms:"
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
_REMEMBERED, _REMEMBERED_S = 4096, 60.0
_DELETION_DAYS = 7  # the least that KMS takes; the key is out of use at once
_DAMAGED = {"InvalidCiphertextException", "IncorrectKeyException"}
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"max_attempts": 3, "mode": "standard"},
    max_pool_connections=32,
)


class AwsKmsKeys:
    """Wraps data keys with KMS' Encrypt, Decrypt and ReEncrypt.

    Args:
        alias: Prefix of the aliases of all keys: `alias/crisper`.
        region, endpoint: Location of KMS; None takes it from the environment, like the credentials.
    """

    def __init__(self, alias: str, *, region: str | None = None, endpoint: str | None = None) -> None:
        import botocore.session  # noqa: PLC0415 (half a second of imports)

        session = botocore.session.get_session()
        region = region or os.environ.get("AWS_REGION")  # botocore, unlike other AWS SDKs, does not read it
        try:
            self._kms = session.create_client(
                "kms", region_name=region, endpoint_url=endpoint, config=_CONFIG
            )
        except BotoCoreError as error:
            raise KeyUnavailableError(
                f"KMS cannot be used: {error}; check CRISPER_KEYS_URL, region and credentials"
            ) from None
        self._alias = alias
        self._current: TTLCache[str, str] = TTLCache(_REMEMBERED, _REMEMBERED_S)

    async def current_id(self, tenant: str) -> str:
        """Return the id of the tenant's current key. Creates the tenant's first key."""
        found = self._current.get(tenant)
        if found is None:
            found = await self._call(lambda: self._find(tenant) or self._make(tenant))
            self._current[tenant] = found
        return found

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key."""
        key = _key(kek_id)
        sent = {"KeyId": key, "Plaintext": dek, "EncryptionContext": _context(aad)}
        return bytes((await self._call(lambda: self._kms.encrypt(**sent)))["CiphertextBlob"])

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError: the data or `aad` do not match."""
        key = _key(kek_id)
        if not wrapped:
            raise BlobDamagedError("a wrapped key is empty")
        sent = {"KeyId": key, "CiphertextBlob": wrapped, "EncryptionContext": _context(aad)}
        return bytes((await self._call(lambda: self._kms.decrypt(**sent)))["Plaintext"])

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:  # noqa: ARG002
        """Return whether a data key is wrapped with the tenant's current key."""
        return kek_id == await self.current_id(tenant)

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Rewrap a data key inside KMS."""
        sent = {
            "CiphertextBlob": wrapped,
            "SourceKeyId": _key(source.kek_id),
            "SourceEncryptionContext": _context(source.aad),
            "DestinationKeyId": _key(target.kek_id),
            "DestinationEncryptionContext": _context(target.aad),
        }
        return bytes((await self._call(lambda: self._kms.re_encrypt(**sent)))["CiphertextBlob"])

    async def rotate(self, tenant: str) -> str:
        """Make a fresh key the tenant's current one; other servers follow within a minute."""
        kek_id = self._current[tenant] = await self._call(lambda: self._make(tenant))
        return kek_id

    async def destroy(self, tenant: str) -> int:
        """Schedule the deletion of all keys of a tenant. Returns their number.

        KMS refuses to use the keys at once, and erases them after seven days.
        """
        self._current.pop(tenant, None)
        return await self._call(lambda: self._destroy(tenant))

    async def probe(self) -> None:
        """Check that KMS answers."""
        await self._call(lambda: self._kms.list_aliases(Limit=1))

    async def aclose(self) -> None:
        """Close connections."""
        await asyncio.to_thread(self._kms.close)

    def _find(self, tenant: str) -> str | None:
        try:
            found = self._kms.describe_key(KeyId=self._alias_of(tenant))["KeyMetadata"]
        except self._kms.exceptions.NotFoundException:
            return None
        if found["KeyState"] != "Enabled":
            raise KeyUnavailableError(f"key {found['KeyId']} is {found['KeyState']}")
        return _PREFIX + str(found["KeyId"])

    def _make(self, tenant: str) -> str:
        alias = self._alias_of(tenant)
        tags = [{"TagKey": "crisper-tenant", "TagValue": tenant}]
        made = self._kms.create_key(Description=f"Crisper's blobs of {tenant}", Tags=tags)["KeyMetadata"]
        key = str(made["KeyId"])
        # The alias exists before the key is used, so that `_destroy` finds every key that was used.
        self._kms.create_alias(AliasName=f"{alias}/{key}", TargetKeyId=key)
        try:
            self._kms.create_alias(AliasName=alias, TargetKeyId=key)
        except self._kms.exceptions.AlreadyExistsException:
            self._kms.update_alias(AliasName=alias, TargetKeyId=key)
        return _PREFIX + key

    def _destroy(self, tenant: str) -> int:
        alias, keys = self._alias_of(tenant), set[str]()
        names = [alias]
        for page in self._kms.get_paginator("list_aliases").paginate():
            for entry in page["Aliases"]:
                if entry["AliasName"].startswith(f"{alias}/"):
                    keys.add(entry["TargetKeyId"])
                    names.append(entry["AliasName"])
        for key in keys:
            with suppress(self._kms.exceptions.KMSInvalidStateException):  # already scheduled for deletion
                self._kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=_DELETION_DAYS)
        for name in names:
            with suppress(self._kms.exceptions.NotFoundException):
                self._kms.delete_alias(AliasName=name)
        return len(keys)

    def _alias_of(self, tenant: str) -> str:
        if not _TENANT.fullmatch(tenant):
            raise KeyUnavailableError(
                "this organization's name contains characters that KMS does not allow in an alias"
            )
        return f"{self._alias}/{tenant}"

    @staticmethod
    async def _call(work: Callable[[], R]) -> R:
        try:
            return await asyncio.to_thread(work)
        except StorageError:
            raise
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _DAMAGED:
                raise BlobDamagedError("a wrapped key does not authenticate") from None
            raise KeyUnavailableError(
                f"KMS refused the request ({code}): check the key policy and the credentials"
            ) from None
        except BotoCoreError as error:
            raise KeyUnavailableError(f"KMS does not answer ({type(error).__name__})") from None

    def __repr__(self) -> str:
        return f"AwsKmsKeys({self._alias!r})"


def _key(kek_id: str) -> str:
    if not kek_id.startswith(_PREFIX):
        raise KeyUnavailableError(f"key {kek_id} is not a KMS key: check CRISPER_KEYS_URL")
    return kek_id.removeprefix(_PREFIX)


def _context(aad: bytes) -> dict[str, str]:
    return {"oeb1": base64.b64encode(aad).decode()}
