"""The identity provider: metadata, keys, and the exchange of an authorization code for claims."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from yarl import URL

from auth.secret import Secret
from registry.errors import IdentityProviderError, IdTokenError
from registry.identity.attempt import SignInAttempt
from registry.identity.id_token import Jwk, UnknownKeyError, verify_id_token
from registry.identity.metadata import WELL_KNOWN, ProviderMetadata
from registry.upstream.identity import IdentityClient

MAX_KEYS: Final = 64

_FRESH_S: Final = 3600.0
_RETRY_S: Final = 5.0
_RENEW_S: Final = 60.0
_EXCHANGES: Final = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OidcClient:
    """Crisper as a client of the provider.

    Attributes:
        secret: None for a public client.
        scopes: Scopes to request, separated by spaces.
    """

    issuer: str
    client_id: str
    secret: Secret | None = field(repr=False)
    scopes: str


class _Kept(Generic[T]):
    """A document that is read once an hour. After a failure, it is not read again for a few seconds."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._error: IdentityProviderError | None = None
        self._read_at = -_FRESH_S

    async def get(self, *, max_age_s: float = _FRESH_S) -> T:
        async with self._lock:
            age_s = time.monotonic() - self._read_at
            if self._value is not None and age_s < max_age_s:
                return self._value
            if self._error is not None and age_s < _RETRY_S:
                raise IdentityProviderError(str(self._error))
            self._read_at, self._error = time.monotonic(), None
            try:
                self._value = await self._read()
            except IdentityProviderError as error:
                self._value, self._error = None, error
                raise
            return self._value


class IdentityProvider:
    """The operator's OpenID provider.

    Args:
        http: Reads documents; the caller closes it.
    """

    def __init__(self, client: OidcClient, http: IdentityClient) -> None:
        self._client = client
        self._http = http
        self._metadata = _Kept(self._read_metadata)
        self._keys = _Kept(self._read_keys)
        self._exchanges = asyncio.Semaphore(_EXCHANGES)

    @property
    def issuer(self) -> str:
        """The provider's identifier, a URL."""
        return self._client.issuer

    async def authorization_url(self, attempt: SignInAttempt, redirect_uri: str) -> str:
        """Return the URL at which the browser asks for a code. Raises IdentityProviderError."""
        metadata = await self._metadata.get()
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._client.scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(metadata.authorization_endpoint).update_query(query))

    async def is_issuer(self, shown: str | None) -> bool:
        """Return whether an authorization response comes from this provider (RFC 9207, section 2.4)."""
        if shown is None:
            return not (await self._metadata.get()).names_issuer
        return shown == self._client.issuer

    async def claims(
        self,
        attempt: SignInAttempt,
        code: str,
        redirect_uri: str,
        *,
        is_complete: Callable[[Mapping[str, Any]], bool],
    ) -> Mapping[str, Any]:
        """Exchange a code for the claims of the person who signed in.

        Args:
            is_complete: Whether the ID token's claims are enough. If not, those of the userinfo endpoint are
                added.

        Raises:
            IdentityProviderError: The provider does not answer, or refuses the code.
            IdTokenError: The ID token is not valid for this attempt.
        """
        async with self._exchanges:
            metadata = await self._metadata.get()
            tokens = await self._redeem(metadata, attempt, code, redirect_uri)
            id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
            if not isinstance(id_token, str):
                raise IdTokenError("the provider sent no ID token: check that the scopes include openid")
            claims = await self._verify(id_token, attempt.nonce)
            if is_complete(claims) or metadata.userinfo_endpoint is None or not isinstance(access_token, str):
                return claims
            more = await self._http.get(metadata.userinfo_endpoint, bearer=access_token)
        if more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, section 5.3.2
            raise IdTokenError("the userinfo endpoint answered about another person")
        return {**more, **claims}

    async def _redeem(
        self, metadata: ProviderMetadata, attempt: SignInAttempt, code: str, redirect_uri: str
    ) -> Mapping[str, Any]:
        secret = self._client.secret.reveal() if self._client.secret else None
        basic, fields = metadata.authentication(self._client.client_id, secret)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
            **fields,
        }
        return await self._http.post(metadata.token_endpoint, form, basic=basic)

    async def _verify(self, token: str, nonce: str) -> Mapping[str, Any]:
        for max_age_s in (_FRESH_S, _RENEW_S):  # the provider may have rotated its keys
            keys = await self._keys.get(max_age_s=max_age_s)
            try:
                return verify_id_token(
                    token, keys, issuer=self._client.issuer, client_id=self._client.client_id, nonce=nonce
                )
            except UnknownKeyError:
                continue
        raise UnknownKeyError("the provider's keys do not include the key of the ID token")

    async def _read_metadata(self) -> ProviderMetadata:
        document = await self._http.get(self._client.issuer.rstrip("/") + WELL_KNOWN)
        return ProviderMetadata.parse(document, self._client.issuer)

    async def _read_keys(self) -> Sequence[Jwk]:
        document = await self._http.get((await self._metadata.get()).jwks_uri)
        keys = document.get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise IdentityProviderError("its key document is not a list of keys, or has too many")
        return [key for key in keys if isinstance(key, dict)]
