"""Authorization of all requests under `/v2/`: verifies the bearer token, then asks the ledger."""

import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from cachetools import LRUCache

from auth.audit import AuthEventType
from auth.claims import SessionClaims, read_session_claims
from auth.context import AuthContext
from auth.delivery import MeteredDelivery
from auth.errors import Cause, LedgerUnavailableError, OutsideScopeError, RefusedError
from auth.jws import TokenType, verify
from auth.networks import within
from auth.peer import ShownCertificate, described, proves
from auth.ports import AuditEvent
from auth.signing_keys import LocalVerificationKeys

_CACHED = 4096
_RESPONSE_ID_BYTES = 9


class Verifier:
    """Verifies bearer tokens and starts their requests. Needs only public keys.

    Args:
        keys: Accepted keys.
        context: Shared dependencies and names.
        count: Called with numbers of bytes that a session's node received, for statistics. Does no I/O.
    """

    def __init__(
        self,
        keys: LocalVerificationKeys,
        context: AuthContext,
        count: Callable[[SessionClaims, int], None] | None = None,
    ) -> None:
        self._keys = keys
        self._context = context
        self._count = count
        self._verified: LRUCache[tuple[int, bytes], SessionClaims] = LRUCache(_CACHED)

    def verify(self, bearer: str) -> SessionClaims:
        """Verify a bearer token and return its claims. Caches the signature check, but not the expiry.

        Does not record refusals; `admit` does.

        Raises:
            RefusedError: The bearer is malformed, forged or expired.
        """
        key = (self._keys.version, hashlib.sha256(bearer.encode(errors="replace")).digest())
        claims = self._verified.get(key)
        if claims is None:
            claims = self._verified[key] = self._read(bearer)
        if claims.expired(self._context.clock.now()):
            raise _refused(claims, Cause.EXPIRED)
        return claims

    async def admit(self, bearer: str, *, source: str, peer: ShownCertificate | None = None) -> SessionClaims:
        """Verify a bearer token and its holder, and record a refusal.

        Args:
            bearer: The presented bearer token.
            source: Network address of the client.
            peer: Certificate that the client presents, if any.

        Raises:
            RefusedError: The bearer is malformed, forged or expired, or is bound to a certificate or
                networks that do not match.
        """
        try:
            claims = self.verify(bearer)
            _prove(claims, source, peer)
        except RefusedError as refusal:
            await self._record(refusal.cause, refusal, source, peer)
            raise
        return claims

    async def refuse(self, claims: SessionClaims, cause: Cause, *, source: str) -> NoReturn:
        """Refuse and record a request outside the scope of a valid session.

        Raises:
            OutsideScopeError: Always.
        """
        await self._record(cause, claims, source)
        raise OutsideScopeError(cause)

    async def record_keyed(
        self, claims: SessionClaims, *, source: str, peer: ShownCertificate | None
    ) -> None:
        """Record that the session's node gets the keys of encrypted layers. Call it before they are sent."""
        key = claims.encryption.key if claims.encryption else None
        await self._context.audit.record(
            AuditEvent(
                AuthEventType.TOKEN_KEYED,
                organization=claims.organization,
                token_id=claims.token_id,
                node_id=claims.node_id,
                source=source,
                detail={"encryption_key": key, **described(peer)},
            )
        )

    async def begin(
        self,
        claims: SessionClaims,
        *,
        repository: str,
        digest: str | None,
        length_bytes: int,
        blob: bool,
        source: str,
        peer: ShownCertificate | None = None,
    ) -> MeteredDelivery:
        """Start one request. Every request asks the ledger here.

        Args:
            claims: Result of `verify` or `admit`.
            repository: Requested repository.
            digest: Digest of the requested blob. The caller must check that it belongs to the image.
            length_bytes: Bytes of the blob in the response; without a blob, bytes of documents to charge.
            blob: Whether the response contains blob bytes, which are metered; False for manifests and HEAD.
            source: Network address of the client.
            peer: Certificate that the client presents, if any.

        Returns:
            The meter of the response. The caller must finish it, also after an error.

        Raises:
            OutsideScopeError: The repository or the blob is outside the session's image.
            RefusedError: The session has ended or was revoked, its budget is spent, or it is bound to a
                certificate that is not presented.
            LedgerUnavailableError: The ledger does not answer; nothing may be sent.
        """
        try:
            _prove(claims, source, peer)
            return await self._begin(claims, repository, digest if blob else None, length_bytes)
        except RefusedError as refusal:
            await self._record(refusal.cause, claims, source, peer)
            raise
        except LedgerUnavailableError:
            await self._record(Cause.LEDGER_UNAVAILABLE, claims, source)
            raise

    async def _begin(
        self, claims: SessionClaims, repository: str, blob: str | None, length_bytes: int
    ) -> MeteredDelivery:
        if claims.session_id is None or claims.repository != repository:
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)
        response_id = secrets.token_urlsafe(_RESPONSE_ID_BYTES)
        try:
            granted = await self._context.ledger.begin(
                claims.token_id, claims.session_id, response_id, blob=blob, length_bytes=length_bytes
            )
        except RefusedError as refusal:
            if refusal.cause is Cause.UNKNOWN:  # its bearer has our signature, so there was a session
                raise RefusedError(Cause.SESSION_OVER) from None
            raise
        return MeteredDelivery(
            self._context.ledger,
            claims.token_id,
            response_id,
            blob=blob,
            length=length_bytes,
            granted=granted,
            count=partial(self._count, claims) if self._count is not None else None,
        )

    def _read(self, bearer: str) -> SessionClaims:
        payload = verify(
            self._keys,
            bearer,
            type_=TokenType.SESSION,
            issuer=self._context.issuer,
            audience=self._context.service,
            now=self._context.clock.now(),
        )
        return read_session_claims(payload)

    async def _record(
        self,
        cause: Cause,
        about: SessionClaims | RefusedError,
        source: str,
        peer: ShownCertificate | None = None,
    ) -> None:
        await self._context.audit.record(
            AuditEvent(
                AuthEventType.TOKEN_REFUSED,
                organization=about.organization,
                token_id=about.token_id,
                node_id=about.node_id,
                cause=cause.value,
                source=source,
                detail={"at": "registry", **described(peer)},
            )
        )


def _prove(claims: SessionClaims, source: str, peer: ShownCertificate | None) -> None:
    if claims.networks and not within(source, claims.networks):
        raise _refused(claims, Cause.WRONG_NETWORK)
    if claims.by_certificate and not proves(peer, claims.node_id):
        raise _refused(claims, Cause.WRONG_PEER)


def _refused(claims: SessionClaims, cause: Cause) -> RefusedError:
    """Return the refusal with the session's ids, which are authentic because the bearer is signed."""
    return RefusedError(
        cause, token_id=claims.token_id, node_id=claims.node_id, organization=claims.organization
    )
