"""The token endpoint, without HTTP: a pull token and a node's proof become a session."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from auth.audit import AuthEventType
from auth.claims import Access, PullClaims, confirmation, read_pull_claims
from auth.errors import Cause, LedgerUnavailableError, OutsideScopeError, RefusedError, TokenNotFoundError
from auth.jws import TokenType, sign, verify
from auth.peer import ShownCertificate, described, proves
from auth.ports import AuditEvent, AuditTrail, Clock, TokenLedger
from auth.records import LEDGER_EXCHANGES, NodeBinding, NodeProof, Redemption
from auth.scope import parse_scopes
from auth.secret import Secret, hash_secret, split_password
from auth.signing_keys import LocalSigningKeys

_LOGIN_S = 300
_ID_BYTES = 16
_MAX_NAME = 128  # a longer user name may well be a token in the wrong field
_PATIENCE_S = 8.0  # Docker gives the realm 15 s, and takes any 5xx for final
_PAUSE_S = 0.25
_PULL = ("pull",)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """What a client sends to the realm, by GET with Basic or by POST.

    Attributes:
        username: The node id.
        password: The pull token, `~` and the node's secret.
        service: The registry's name, from the challenge; clients may leave it out.
        scopes: The `scope` parameters as sent; empty for a login.
        source: The client's network address.
        peer: The certificate that the client shows, if any.
    """

    username: str
    password: Secret | None
    service: str | None
    scopes: Sequence[str]
    source: str
    peer: ShownCertificate | None = None


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a client gets.

    Attributes:
        token: The bearer.
        expires_in_s: For how long it is sure to be taken; whole seconds.
        access: What it is good for; empty for a login.
        token_id: The pull token.
        session_id: None for a login.
        opened: Whether this exchange redeemed the token.
    """

    token: Secret
    expires_in_s: int
    access: tuple[Access, ...]
    token_id: str
    session_id: str | None
    opened: bool


class Realm:
    """Exchanges pull tokens for sessions (docs/tokens.md, "Redemption").

    Args:
        keys: Private keys for bearers, and the public ones.
        ledger: Where a token is redeemed, and its redemption recorded.
        audit: Where refusals are recorded.
        clock: The time.
        issuer: `iss` of every token.
        service: `aud` of every token: the registry's name.
        patience_s: How long an exchange waits for a ledger that does not answer.
    """

    def __init__(
        self,
        keys: LocalSigningKeys,
        ledger: TokenLedger,
        audit: AuditTrail,
        clock: Clock,
        *,
        issuer: str,
        service: str,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._keys = keys
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self._issuer = issuer
        self._service = service
        self._patience_s = patience_s

    async def exchange(self, request: ExchangeRequest) -> SessionGrant:
        """Answer one exchange.

        Nothing is redeemed before every proof holds: 1. the token; 2. the name; 3. the node's proof; 4. the
        scope; 5. the ledger.

        Raises:
            RefusedError: A proof does not hold.
            OutsideScopeError: The token is not for what is asked; it stays as it was.
            LedgerUnavailableError: The ledger did not answer for 8 s; the client may repeat the exchange.
        """
        try:
            claims, secret = self._read(request)
        except RefusedError as refusal:
            await self._record_refusal(request, refusal.cause)
            raise
        try:
            return await self._answer(claims, secret, request)
        except RefusedError as refusal:
            owner = await self._owner(claims)
            await self._record_refusal(request, refusal.cause, claims.token_id, owner)
            raise
        except LedgerUnavailableError:
            await self._record_refusal(request, Cause.LEDGER_UNAVAILABLE, claims.token_id)
            raise

    def _read(self, request: ExchangeRequest) -> tuple[PullClaims, Secret | None]:
        if request.password is None or request.service not in {None, "", self._service}:
            raise RefusedError(Cause.MALFORMED)
        token, secret = split_password(request.password)
        payload = verify(
            self._keys.verification_keys,
            token.reveal(),
            type_=TokenType.PULL,
            issuer=self._issuer,
            audience=self._service,
            now=self._clock.now(),
        )
        return read_pull_claims(payload), secret

    async def _answer(
        self, claims: PullClaims, secret: Secret | None, request: ExchangeRequest
    ) -> SessionGrant:
        if request.username != claims.node_id:
            raise RefusedError(Cause.WRONG_NODE)
        proof = _proof(claims, secret, request)
        if any(scope.asks_to_pull(claims.repository) for scope in parse_scopes(request.scopes)):
            return await self._redeem(claims, proof, request)
        binding = await self._ledger.check(claims.token_id, claims.node_id, proof)
        if any(request.scopes):
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)
        token = self._bearer(claims, binding, lifetime_s=_LOGIN_S)
        return SessionGrant(token, _LOGIN_S, (), claims.token_id, session_id=None, opened=False)

    async def _redeem(self, claims: PullClaims, proof: NodeProof, request: ExchangeRequest) -> SessionGrant:
        event = AuditEvent(
            AuthEventType.TOKEN_REDEEMED,
            organization=claims.organization,
            token_id=claims.token_id,
            node_id=claims.node_id,
            source=request.source,
            detail={"repository": claims.repository, **described(request.peer)},
        )
        session = await self._session(claims, proof, event)
        if session.binding is None:  # not for the realm, which presents a proof
            raise RefusedError(Cause.NODE_UNKNOWN)
        if session.exchanges > LEDGER_EXCHANGES:
            await self._audit.record(replace(event, type=AuthEventType.TOKEN_EXCHANGED))
            _log.warning(
                "token.exchanged_often",
                token_id=claims.token_id,
                node_id=claims.node_id,
                exchanges=session.exchanges,
            )
        return SessionGrant(
            token=self._bearer(
                claims, session.binding, lifetime_s=session.hard_end_s, session_id=session.session_id
            ),
            expires_in_s=max(1, int(session.announce_s)),
            access=(Access("repository", claims.repository, _PULL),),
            token_id=claims.token_id,
            session_id=session.session_id,
            opened=session.opened,
        )

    async def _session(self, claims: PullClaims, proof: NodeProof, event: AuditEvent) -> Redemption:
        """Redeem, patiently: a client takes an error of the realm for final.

        Every attempt proposes the same session, so one whose answer was lost is found again.
        """
        proposed = secrets.token_urlsafe(_ID_BYTES)
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._ledger.redeem(claims.token_id, claims.node_id, proposed, proof, event)
            except LedgerUnavailableError:
                if time.monotonic() + _PAUSE_S > give_up:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _owner(self, claims: PullClaims) -> str | None:
        """Return whose token it is, if the ledger knows it as what it says: both have to be ours."""
        try:
            view = await self._ledger.show(claims.token_id)
        except (TokenNotFoundError, LedgerUnavailableError):
            return None
        return view.organization if view.organization == claims.organization else None

    async def _record_refusal(
        self,
        request: ExchangeRequest,
        cause: Cause,
        token_id: str | None = None,
        organization: str | None = None,
    ) -> None:
        named = len(request.username) <= _MAX_NAME and request.username.isprintable()
        await self._audit.record(
            AuditEvent(
                AuthEventType.TOKEN_REFUSED,
                organization=organization,
                token_id=token_id,
                node_id=request.username if named else None,
                cause=cause.value,
                source=request.source,
                detail={"at": "realm", **described(request.peer)},
            )
        )

    def _bearer(
        self, claims: PullClaims, binding: NodeBinding, *, lifetime_s: float, session_id: str | None = None
    ) -> Secret:
        issued_at = int(self._clock.now().timestamp())
        said: dict[str, object] = {
            "iss": self._issuer,
            "sub": claims.node_id,
            "aud": self._service,
            "client_id": claims.node_id,
            "jti": claims.token_id,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + max(1, int(lifetime_s)),
            "org": claims.organization,
            "access": [],
        }
        if binding.by_certificate:
            said["cnf"] = confirmation(claims.node_id)
        if binding.networks:
            said["nets"] = [str(network) for network in binding.networks]
        if session_id is not None:
            access = Access("repository", claims.repository, _PULL)
            said |= {"sid": session_id, "img": claims.image_digest, "access": [access.to_claim()]}
        return sign(self._keys, TokenType.SESSION, said)


def _proof(claims: PullClaims, secret: Secret | None, request: ExchangeRequest) -> NodeProof:
    return NodeProof(
        certified=proves(request.peer, claims.node_id),
        secret_hash=hash_secret(secret) if secret is not None else b"",
        source=request.source,
    )
