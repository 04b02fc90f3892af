"""Encrypted upstream credentials (implements `registry.model.imports.CredentialVault`).

Redis has the ciphertext. The job's row in the catalog has the key, wrapped by the key provider. Both are
erased when the job ends, and a copy of one of them is useless.
"""

import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.exceptions import RedisError

from auth.errors import LedgerUnavailableError
from auth.ledger import LedgerClient, ReplicatedStore
from auth.secret import Secret
from registry.errors import StoreFailedError, StoreUnavailableError
from registry.model.imports import CredentialKind, UpstreamCredential
from storage.errors import KeyUnavailableError
from storage.ports import KeyProvider

# Longer than any import. It limits the lifetime of credentials whose job never ended.
TTL_S = 24 * 3600

_TENANT = "_credentials"  # not a valid name of an organization
_NONCE_BYTES = 12


class RedisCredentialVault:
    """Stores credentials as `credential:{<job id>}`, each under a separate key.

    Args:
        replicas: Number of Redis replicas that must have a credential before its import is accepted.
    """

    def __init__(self, redis: LedgerClient, keys: KeyProvider, *, replicas: int = 0) -> None:
        self._redis = redis
        self._store = ReplicatedStore(redis, replicas=replicas)
        self._keys = keys

    async def seal(self, job_id: str, credential: UpstreamCredential) -> bytes:
        """Seal and store a credential. Returns its wrapped key, which the job's row holds until the end.

        Raises:
            StoreFailedError: Redis, its replicas or the key provider do not answer. No import begins.
        """
        dek, nonce, aad = AESGCM.generate_key(256), os.urandom(_NONCE_BYTES), _aad(job_id)
        plaintext = json.dumps([credential.username, credential.password.reveal(), credential.kind]).encode()
        sealed = nonce + AESGCM(dek).encrypt(nonce, plaintext, aad)
        try:
            kek_id = await self._keys.current_id(_TENANT)
            wrapped = await self._keys.wrap(kek_id, dek, aad)
            await self._store.put(_name(job_id), sealed, TTL_S)
        except (RedisError, OSError, LedgerUnavailableError, KeyUnavailableError):
            raise StoreFailedError(
                "The credentials could not be stored for the import. Try again in a minute."
            ) from None
        return kek_id.encode() + b"\0" + wrapped

    async def open(self, job_id: str, credential_key: bytes) -> UpstreamCredential:
        """Return the credential.

        Raises:
            StoreUnavailableError: Redis or the key provider does not answer.
            StoreFailedError: The credential has expired, or does not decrypt.
        """
        kek_id, _, wrapped = credential_key.partition(b"\0")
        aad = _aad(job_id)
        try:
            sealed = await self._redis.get(_name(job_id))
            dek = await self._keys.unwrap(kek_id.decode(), wrapped, aad)
        except (RedisError, OSError, KeyUnavailableError):
            raise StoreUnavailableError(
                "The stored credentials could not be read. Try again in a minute."
            ) from None
        if not isinstance(sealed, bytes):
            raise StoreFailedError(
                "The stored credentials expired before the import ran. Create the group again."
            )
        try:
            plaintext = AESGCM(dek).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise StoreFailedError("The stored credentials are damaged. Create the group again.") from None
        username, password, *kind = json.loads(plaintext)  # older servers wrote no kind
        return UpstreamCredential(username, Secret(password), CredentialKind(*kind or ["password"]))

    async def forget(self, job_id: str) -> None:
        """Remove the credential. Call it after success and after failure."""
        try:
            await self._redis.delete(_name(job_id))
        except (RedisError, OSError):
            raise StoreFailedError(
                "The stored credentials could not be erased yet. They expire by themselves."
            ) from None


def _name(job_id: str) -> str:
    return f"credential:{{{job_id}}}"


def _aad(job_id: str) -> bytes:
    return b"crisper-credential|" + job_id.encode()
