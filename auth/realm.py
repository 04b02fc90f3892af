"""The token endpoint, without HTTP: a pull token and a node's proof become a session."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from auth.audit import AuthEventType
from auth.binding import NodeProofs
from auth.claims import Access, PullClaims, confirmation, read_pull_claims
from auth.errors import Cause, LedgerUnavailableError, OutsideScopeError, RefusedError, TokenNotFoundError
from auth.jws import SigningKeys, TokenType, VerificationKeys, sign, verify
from auth.peer import ShownCertificate, described
from auth.ports import AuditEvent, AuditTrail, Binding, Clock, Node, NodeDirectory, TokenLedger
from auth.records import Redemption, TokenState
from auth.scope import parse_scopes
from auth.secret import Secret, split_password

_LOGIN_S = 300
_ID_BYTES = 16
_ALARM_EXCHANGES = 32
_MAX_NAME = 128  # a longer user name may well be a token in the wrong field
_PATIENCE_S = 8.0  # Docker gives the realm 15 s, and takes any 5xx for final
_PAUSE_S = 0.25
_PULL = ("pull",)
_OVER = {
    TokenState.DONE: Cause.REPLAYED,
    TokenState.EXPIRED: Cause.EXPIRED,
    TokenState.REVOKED: Cause.REVOKED,
}

_log = structlog.get_logger(__name__)


class RealmKeys(SigningKeys, Protocol):
    """Keys that sign sessions and verify the tokens that open them."""

    @property
    def verification_keys(self) -> VerificationKeys:
        """The public half."""


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
        ledger: Where a token is redeemed.
        directory: Who the nodes are.
        audit: Where redemptions and refusals are recorded.
        clock: The time.
        issuer: `iss` of every token.
        service: `aud` of every token: the registry's name.
        patience_s: How long an exchange waits for a ledger that does not answer.
    """

    def __init__(
        self,
        keys: RealmKeys,
        ledger: TokenLedger,
        directory: NodeDirectory,
        audit: AuditTrail,
        clock: Clock,
        *,
        issuer: str,
        service: str,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._keys = keys
        self._ledger = ledger
        self._proofs = NodeProofs(directory)
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
            claims = self._read(request)
        except RefusedError as refusal:
            await self._record_refusal(request, refusal)
            raise
        try:
            return await self._answer(claims, request)
        except RefusedError as refusal:
            refusal.token_id, refusal.node_id = claims.token_id, claims.node_id
            refusal.organization = await self._owner(claims)
            await self._record_refusal(request, refusal)
            raise
        except LedgerUnavailableError:
            unanswered = RefusedError(Cause.LEDGER_UNAVAILABLE, token_id=claims.token_id)
            await self._record_refusal(request, unanswered)
            raise

    def _read(self, request: ExchangeRequest) -> PullClaims:
        if request.password is None or request.service not in {None, "", self._service}:
            raise RefusedError(Cause.MALFORMED)
        token, _ = split_password(request.password)
        payload = verify(
            self._keys.verification_keys,
            token.reveal(),
            type_=TokenType.PULL,
            issuer=self._issuer,
            audience=self._service,
            now=self._clock.now(),
        )
        return read_pull_claims(payload)

    async def _answer(self, claims: PullClaims, request: ExchangeRequest) -> SessionGrant:
        if request.username != claims.node_id:
            raise RefusedError(Cause.WRONG_NODE)
        _, secret = split_password(request.password or Secret(""))
        node = await self._proofs.check(claims.node_id, secret, request.source, request.peer)
        if not any(request.scopes):
            return await self._log_in(claims, node)
        if not any(scope.asks_to_pull(claims.repository) for scope in parse_scopes(request.scopes)):
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)
        return await self._redeem(claims, node, request)

    async def _log_in(self, claims: PullClaims, node: Node) -> SessionGrant:
        """Answer an exchange without scope: everything is checked, and nothing redeemed."""
        try:
            view = await self._ledger.show(claims.token_id)
        except TokenNotFoundError:
            raise RefusedError(Cause.UNKNOWN) from None
        if view.state not in {TokenState.MINTED, TokenState.ACTIVE}:
            raise RefusedError(_OVER[view.state])
        token = self._bearer(claims, node, lifetime_s=_LOGIN_S)
        return SessionGrant(token, _LOGIN_S, (), claims.token_id, session_id=None, opened=False)

    async def _redeem(self, claims: PullClaims, node: Node, request: ExchangeRequest) -> SessionGrant:
        session = await self._session(claims)
        # Before the audit trail is waited for: those whom one answer of the ledger woke then sign one after
        # the other, with the curve's tables in the processor's cache (docs/performance.md).
        token = self._bearer(claims, node, lifetime_s=session.hard_end_s, session_id=session.session_id)
        await self._audit.record(
            AuditEvent(
                AuthEventType.TOKEN_REDEEMED if session.opened else AuthEventType.TOKEN_EXCHANGED,
                organization=claims.organization,
                token_id=claims.token_id,
                node_id=claims.node_id,
                source=request.source,
                detail={"repository": claims.repository, **described(request.peer)},
            )
        )
        if session.exchanges > _ALARM_EXCHANGES:
            _log.warning(
                "token.exchanged_often",
                token_id=claims.token_id,
                node_id=claims.node_id,
                exchanges=session.exchanges,
            )
        return SessionGrant(
            token=token,
            expires_in_s=max(1, int(session.announce_s)),
            access=(Access("repository", claims.repository, _PULL),),
            token_id=claims.token_id,
            session_id=session.session_id,
            opened=session.opened,
        )

    async def _session(self, claims: PullClaims) -> Redemption:
        """Redeem, patiently: a client takes an error of the realm for final.

        Every attempt proposes the same session, so one whose answer was lost is found again.
        """
        proposed = secrets.token_urlsafe(_ID_BYTES)
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._ledger.redeem(claims.token_id, claims.node_id, proposed)
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

    async def _record_refusal(self, request: ExchangeRequest, refusal: RefusedError) -> None:
        named = len(request.username) <= _MAX_NAME and request.username.isprintable()
        await self._audit.record(
            AuditEvent(
                AuthEventType.TOKEN_REFUSED,
                organization=refusal.organization,
                token_id=refusal.token_id,
                node_id=request.username if named else None,
                cause=refusal.cause.value,
                source=request.source,
                detail={"at": "realm", **described(request.peer)},
            )
        )

    def _bearer(
        self, claims: PullClaims, node: Node, *, lifetime_s: float, session_id: str | None = None
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
        if node.binding is Binding.CERTIFICATE:
            said["cnf"] = confirmation(node.node_id)
        if node.networks:
            said["nets"] = [str(network) for network in node.networks]
        if session_id is not None:
            access = Access("repository", claims.repository, _PULL)
            said |= {"sid": session_id, "img": claims.image_digest, "access": [access.to_claim()]}
        return sign(self._keys, TokenType.SESSION, said)
