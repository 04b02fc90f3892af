"""What stands before every request under `/v2/`: the bearer, then the ledger."""

import hashlib
import secrets
from collections import OrderedDict
from typing import NoReturn

from auth.audit import AuthEventType
from auth.claims import SessionClaims, read_session_claims
from auth.delivery import MeteredDelivery
from auth.errors import Cause, LedgerUnavailableError, OutsideScopeError, RefusedError
from auth.jws import TokenType, VerificationKeys, verify
from auth.networks import within
from auth.peer import ShownCertificate, described, proves
from auth.ports import AuditEvent, AuditTrail, Clock, TokenLedger

_CACHED = 4096
_RESPONSE_ID_BYTES = 9


class Verifier:
    """Verifies bearers and lets their requests start; holds public keys only.

    Args:
        keys: The keys that may have signed a bearer.
        ledger: What is asked once per request.
        audit: Where refusals are recorded.
        clock: The time.
        issuer: The only `iss`.
        service: The only `aud`.
    """

    def __init__(
        self,
        keys: VerificationKeys,
        ledger: TokenLedger,
        audit: AuditTrail,
        clock: Clock,
        *,
        issuer: str,
        service: str,
    ) -> None:
        self._keys = keys
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self._issuer = issuer
        self._service = service
        self._verified: OrderedDict[tuple[int, bytes], SessionClaims] = OrderedDict()

    def verify(self, bearer: str) -> SessionClaims:
        """Return what a bearer says, proven; its expiry is checked every time, its signature once.

        Records nothing: `admit` does.

        Raises:
            RefusedError: It is malformed, forged or expired.
        """
        key = (self._keys.version, hashlib.sha256(bearer.encode(errors="replace")).digest())
        claims = self._verified.get(key)
        if claims is None:
            claims = self._read(bearer)
            self._verified[key] = claims
            if len(self._verified) > _CACHED:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(key)
        if claims.expired(self._clock.now()):
            raise _of(claims, RefusedError(Cause.EXPIRED))
        return claims

    async def admit(self, bearer: str, *, source: str, peer: ShownCertificate | None = None) -> SessionClaims:
        """Verify a bearer and who holds it, and record a refusal.

        Args:
            bearer: As presented.
            source: The client's network address.
            peer: The certificate that the client shows, if any.

        Raises:
            RefusedError: It is malformed, forged or expired, bound to a certificate that is not
                shown, or from a network that is not its node's.
        """
        try:
            claims = self.verify(bearer)
            _prove(claims, source, peer)
        except RefusedError as refusal:
            await self._record(refusal, source, peer)
            raise
        return claims

    async def refuse(self, claims: SessionClaims, cause: Cause, *, source: str) -> NoReturn:
        """Refuse and record what the caller found to lie outside a good session.

        Raises:
            OutsideScopeError: Always.
        """
        refusal = _of(claims, OutsideScopeError(cause))
        await self._record(refusal, source)
        raise refusal

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
        """Let one request start: the one question to the ledger that every request asks.

        Args:
            claims: From `verify` or `admit`.
            repository: What is asked for.
            digest: The blob that is asked for. The caller has checked that it belongs to the image.
            length_bytes: Bytes of the blob that will be delivered.
            blob: Whether they are a blob's, and so metered; not for manifests, nor for HEAD.
            source: The client's network address.
            peer: The certificate that the client shows, if any.

        Returns:
            The meter of the response; the caller finishes it, however the response ends.

        Raises:
            OutsideScopeError: Another repository, or no blob of the image.
            RefusedError: The session is over or revoked, its budget is spent, or it is bound to a
                certificate that is not shown.
            LedgerUnavailableError: The ledger does not answer: nothing may be sent.
        """
        try:
            _prove(claims, source, peer)
            return await self._begin(claims, repository, digest if blob else None, length_bytes)
        except RefusedError as refusal:
            await self._record(_of(claims, refusal), source, peer)
            raise
        except LedgerUnavailableError:
            await self._record(_of(claims, RefusedError(Cause.LEDGER_UNAVAILABLE)), source)
            raise

    async def _begin(
        self, claims: SessionClaims, repository: str, blob: str | None, length_bytes: int
    ) -> MeteredDelivery:
        if claims.session_id is None or claims.repository != repository:
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)
        response_id = secrets.token_urlsafe(_RESPONSE_ID_BYTES)
        try:
            granted = await self._ledger.begin(
                claims.token_id, claims.session_id, response_id, blob=blob, length_bytes=length_bytes
            )
        except RefusedError as refusal:
            if refusal.cause is Cause.UNKNOWN:  # we signed its bearer, so there was a session
                raise RefusedError(Cause.SESSION_OVER) from None
            raise
        return MeteredDelivery(
            self._ledger, claims.token_id, response_id, blob=blob, length=length_bytes, granted=granted
        )

    def _read(self, bearer: str) -> SessionClaims:
        payload = verify(
            self._keys,
            bearer,
            type_=TokenType.SESSION,
            issuer=self._issuer,
            audience=self._service,
            now=self._clock.now(),
        )
        return read_session_claims(payload)

    async def _record(self, refusal: RefusedError, source: str, peer: ShownCertificate | None = None) -> None:
        await self._audit.record(
            AuditEvent(
                AuthEventType.TOKEN_REFUSED,
                organization=refusal.organization,
                token_id=refusal.token_id,
                node_id=refusal.node_id,
                cause=refusal.cause.value,
                source=source,
                detail={"at": "registry", **described(peer)},
            )
        )


def _prove(claims: SessionClaims, source: str, peer: ShownCertificate | None) -> None:
    if claims.networks and not within(source, claims.networks):
        raise _of(claims, RefusedError(Cause.WRONG_NETWORK))
    if claims.by_certificate and not proves(peer, claims.node_id):
        raise _of(claims, RefusedError(Cause.WRONG_PEER))


def _of(claims: SessionClaims, refusal: RefusedError) -> RefusedError:
    """Name the session: we signed its bearer when we opened it."""
    refusal.token_id, refusal.node_id = claims.token_id, claims.node_id
    refusal.organization = claims.organization
    return refusal
