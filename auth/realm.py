"""The token endpoint without HTTP: exchanges a pull token and a node's proof for a session."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from auth.audit import AuthEventType
from auth.claims import Access, PullClaims, confirmation, read_pull_claims
from auth.context import AuthContext
from auth.errors import Cause, LedgerUnavailableError, RefusedError, TokenNotFoundError
from auth.jws import TokenType, sign, verify
from auth.peer import ShownCertificate, described, proves
from auth.ports import AuditEvent
from auth.records import LEDGER_EXCHANGES, NodeBinding, NodeProof, Redemption
from auth.scope import parse_scopes
from auth.secret import Secret, hash_secret, split_password
from auth.signing_keys import LocalSigningKeys

_LOGIN_S = 300
_ID_BYTES = 16
_MAX_NAME = 128  # a longer user name may be a token in the wrong field
_PATIENCE_S = 8.0  # Docker waits 15 s for the realm, and does not retry a 5xx
_PAUSE_S = 0.25
_PULL = ("pull",)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """A client's request to the realm, by GET with Basic or by POST.

    Attributes:
        username: Node id.
        password: Pull token, `~` and the node's secret.
        service: Registry name from the challenge; clients may omit it.
        scopes: `scope` parameters as sent; empty for a login.
        source: Network address of the client.
        peer: Certificate that the client presents, if any.
    """

    username: str
    password: Secret | None
    service: str | None
    scopes: Sequence[str]
    source: str
    peer: ShownCertificate | None = None


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """Result of an exchange.

    Attributes:
        token: Bearer token.
        expires_in_s: Minimum time for which it is valid, in whole seconds.
        access: Granted access; empty for a login.
        token_id: Id of the pull token.
        session_id: Id of the session; None for a login.
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
        keys: Keys that sign bearer tokens and verify pull tokens.
        context: Shared dependencies and names.
        patience_s: Time for which an exchange retries while the ledger does not respond.
    """

    def __init__(
        self, keys: LocalSigningKeys, context: AuthContext, *, patience_s: float = _PATIENCE_S
    ) -> None:
        self._keys = keys
        self._context = context
        self._patience_s = patience_s

    async def exchange(self, request: ExchangeRequest) -> SessionGrant:
        """Exchange a pull token for a session, or check it for a login.

        The token is redeemed only after all checks: 1. the token; 2. the user name; 3. the node's proof;
        4. the scope; 5. the ledger.

        Raises:
            RefusedError: A check failed.
            OutsideScopeError: The token is not valid for the requested scope. It is not redeemed.
            LedgerUnavailableError: The ledger did not respond for 8 s. The client may retry.
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
        if request.password is None or request.service not in {None, "", self._context.service}:
            raise RefusedError(Cause.MALFORMED)
        token, secret = split_password(request.password)
        payload = verify(
            self._keys.verification_keys,
            token.reveal(),
            type_=TokenType.PULL,
            issuer=self._context.issuer,
            audience=self._context.service,
            now=self._context.clock.now(),
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
        binding = await self._context.ledger.check(claims.token_id, claims.node_id, proof)
        if any(request.scopes):  # granted without access, as the token scheme demands; refused at /v2/
            await self._record_refusal(request, Cause.OUTSIDE_SCOPE, claims.token_id, claims.organization)
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
        if session.binding is None:  # cannot happen here, because the realm presents a proof
            raise RefusedError(Cause.NODE_UNKNOWN)
        if session.exchanges > LEDGER_EXCHANGES:
            await self._context.audit.record(replace(event, type=AuthEventType.TOKEN_EXCHANGED))
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
        """Redeem the token, with retries, because clients do not retry after an error of the realm.

        All attempts propose the same session id, so a retry after a lost reply finds the same session.
        """
        proposed = secrets.token_urlsafe(_ID_BYTES)
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._context.ledger.redeem(
                    claims.token_id, claims.node_id, proposed, proof, event
                )
            except LedgerUnavailableError:
                if time.monotonic() + _PAUSE_S > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _owner(self, claims: PullClaims) -> str | None:
        """Return the token's organization if claims and ledger agree on it, else None."""
        try:
            view = await self._context.ledger.show(claims.token_id)
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
        await self._context.audit.record(
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
        issued_at = int(self._context.clock.now().timestamp())
        payload: dict[str, object] = {
            "iss": self._context.issuer,
            "sub": claims.node_id,
            "aud": self._context.service,
            "client_id": claims.node_id,
            "jti": claims.token_id,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + max(1, int(lifetime_s)),
            "org": claims.organization,
            "access": [],
        }
        if claims.encryption is not None:
            payload["enc"] = claims.encryption.to_claim()
        if binding.by_certificate:
            payload["cnf"] = confirmation(claims.node_id)
        if binding.networks:
            payload["nets"] = [str(network) for network in binding.networks]
        if session_id is not None:
            access = Access("repository", claims.repository, _PULL)
            payload |= {"sid": session_id, "img": claims.image_digest, "access": [access.to_claim()]}
        return sign(self._keys, TokenType.SESSION, payload)


def _proof(claims: PullClaims, secret: Secret | None, request: ExchangeRequest) -> NodeProof:
    return NodeProof(
        certified=proves(request.peer, claims.node_id),
        secret_hash=hash_secret(secret) if secret is not None else b"",
        source=request.source,
    )
