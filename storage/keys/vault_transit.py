"""Key-encryption keys in the Transit engine of HashiCorp Vault or OpenBao.

Each tenant has one derived key, `<prefix>-<tenant>`, with versions. A data key's associated data is the
derivation context, because Transit's rewrap supports it (unlike `associated_data`): a data key can be
rewrapped without leaving Vault. The version is in the wrapped key (`vault:v3:...`), not in the key's id.
"""

import asyncio
import base64
import json
import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
from cachetools import TTLCache

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.ports import KeyBinding

_PREFIX = "vault:"
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
_VERSION = re.compile(rb"vault:v([1-9][0-9]{0,8}):", re.ASCII)
_REMEMBERED, _REMEMBERED_S = 4096, 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=8, connect=3)
_ANSWER_BYTES = 64 << 10
_DAMAGED = ("message authentication failed", "invalid ciphertext", "illegal base64", "no prefix")


class VaultTransitKeys:
    """Wraps data keys with Transit's encrypt, decrypt and rewrap.

    The token is VAULT_TOKEN, or the content of the file VAULT_TOKEN_FILE, which is read for each request
    because an agent may renew it. VAULT_NAMESPACE and VAULT_CACERT are supported.

    Args:
        address: `https://vault.example.com:8200`.
        mount: Mount path of the Transit engine.
        prefix: Prefix of the names of all keys.
    """

    def __init__(self, address: str, *, mount: str = "transit", prefix: str = "crisper") -> None:
        self._root = f"{address.rstrip('/')}/v1/{mount}"
        self._id = f"{_PREFIX}{mount}/{prefix}-"
        self._prefix = prefix
        self._session: aiohttp.ClientSession | None = None
        self._latest: TTLCache[str, int] = TTLCache(_REMEMBERED, _REMEMBERED_S)

    async def current_id(self, tenant: str) -> str:
        """Return the id of the tenant's key. Creates the key at its first use."""
        await self._latest_version(tenant)
        return self._id + tenant

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key."""
        name = self._name(kek_id)
        answer = await self._post(f"encrypt/{name}", {"plaintext": _b64(dek), "context": _context(aad)})
        return answer["ciphertext"].encode()

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError: the data or `aad` do not match."""
        name = self._name(kek_id)
        sent = {"ciphertext": _text(wrapped), "context": _context(aad)}
        return base64.b64decode((await self._post(f"decrypt/{name}", sent))["plaintext"])

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:
        """Return whether a data key is wrapped with the latest version of the tenant's key."""
        version = _VERSION.match(wrapped)
        latest = await self._latest_version(tenant)
        return kek_id == self._id + tenant and version is not None and int(version[1]) == latest

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Rewrap a data key inside Vault, or, if the key changes, in this process."""
        if source != target:
            dek = await self.unwrap(source.kek_id, wrapped, source.aad)
            return await self.wrap(target.kek_id, dek, target.aad)
        sent = {"ciphertext": _text(wrapped), "context": _context(source.aad)}
        return (await self._post(f"rewrap/{self._name(source.kek_id)}", sent))["ciphertext"].encode()

    async def rotate(self, tenant: str) -> str:
        """Add a version to the tenant's key."""
        kek_id = await self.current_id(tenant)
        await self._request("POST", f"keys/{self._name(kek_id)}/rotate", {})
        self._latest.pop(tenant, None)
        return kek_id

    async def destroy(self, tenant: str) -> int:
        """Delete the tenant's key with all its versions."""
        self._latest.pop(tenant, None)
        name = f"{self._prefix}-{_checked(tenant)}"
        if await self._request("GET", f"keys/{name}") is None:
            return 0
        await self._request("POST", f"keys/{name}/config", {"deletion_allowed": True})
        await self._request("DELETE", f"keys/{name}")
        return 1

    async def probe(self) -> None:
        """Check that Vault answers and accepts the token."""
        await self._request("LIST", "keys")

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _latest_version(self, tenant: str) -> int:
        found = self._latest.get(tenant)
        if found is not None:
            return found
        path = f"keys/{self._prefix}-{_checked(tenant)}"
        answer = await self._request("GET", path)
        if answer is None:
            await self._request("POST", path, {"type": "aes256-gcm96", "derived": True})
            answer = await self._request("GET", path)
        try:
            version = int(str((answer or {})["latest_version"]))
        except (KeyError, ValueError):
            raise KeyUnavailableError("Vault sent an invalid reply: check the mount's engine") from None
        self._latest[tenant] = version
        return version

    def _name(self, kek_id: str) -> str:
        if not kek_id.startswith(self._id):
            raise KeyUnavailableError(f"key {kek_id} is not in this mount: check CRISPER_KEYS_URL")
        return f"{self._prefix}-{_checked(kek_id.removeprefix(self._id))}"

    async def _post(self, path: str, body: Mapping[str, object]) -> dict[str, str]:
        answer = await self._request("POST", path, body)
        if answer is None:
            raise KeyUnavailableError("Vault has no such key: check the mount in CRISPER_KEYS_URL")
        return {name: str(value) for name, value in answer.items()}

    async def _request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, object] | None:
        """Send a request. Returns `data` of the answer, or None for 404."""
        try:
            headers = await asyncio.to_thread(_headers)
            async with self._client().request(
                method, f"{self._root}/{path}", json=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status == HTTPStatus.NOT_FOUND:
                    return None
                received = await _read(response)
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _refusal(response.status, received.decode(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KeyUnavailableError(
                f"Vault does not answer ({type(error).__name__}): check its address and state"
            ) from None
        return _data(received)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            trusted = ssl.create_default_context(cafile=os.environ.get("VAULT_CACERT"))
            connector = aiohttp.TCPConnector(limit=32, ssl=trusted)
            self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False)
        return self._session

    def __repr__(self) -> str:
        return f"VaultTransitKeys({self._id!r})"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_BYTES:
            raise KeyUnavailableError("Vault's answer is too long")
    return bytes(body)


def _data(body: bytes) -> dict[str, object]:
    try:
        return dict(json.loads(body.decode() or "{}").get("data") or {})
    except (ValueError, AttributeError, TypeError):
        raise KeyUnavailableError("Vault's answer is not JSON: check its address") from None


def _refusal(status: int, body: str) -> KeyUnavailableError | BlobDamagedError:
    if status == HTTPStatus.BAD_REQUEST and any(sign in body for sign in _DAMAGED):
        return BlobDamagedError("a wrapped key does not authenticate")
    return KeyUnavailableError(
        f"Vault refused the request with status {status}: check the token and its policy"
    )


def _headers() -> dict[str, str]:
    token = os.environ.get("VAULT_TOKEN", "")
    if not token and (file := os.environ.get("VAULT_TOKEN_FILE")):
        token = Path(file).read_text(encoding="ascii").strip()
    headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
    if namespace := os.environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = namespace
    return headers


def _checked(tenant: str) -> str:
    if not _TENANT.fullmatch(tenant):
        raise KeyUnavailableError(
            "this organization's name contains characters that Vault does not allow in a key's name"
        )
    return tenant


def _text(wrapped: bytes) -> str:
    """Return a wrapped key as text. Raises BlobDamagedError: it is not in Transit's format.

    The check is strict, because Transit ignores unused bits in base64, so that several texts would be valid
    for one key.
    """
    version = _VERSION.match(wrapped)
    with suppress(ValueError):
        sealed = wrapped[version.end() :] if version else b""
        if sealed and base64.b64encode(base64.b64decode(sealed, validate=True)) == sealed:
            return wrapped.decode("ascii")
    raise BlobDamagedError("a wrapped key is not from Transit")


def _context(aad: bytes) -> str:
    return _b64(b"oeb1" + aad)  # never empty, because Transit refuses an empty context


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
