"""Minting, completion and revocation of pull tokens, for operators."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from auth.audit import AuthEventType
from auth.claims import Access, EncryptionClaim
from auth.context import AuthContext
from auth.errors import TtlOutOfRangeError
from auth.jws import TokenType, sign
from auth.ports import AuditEvent, Node
from auth.records import MAX_TTL_S, EncryptedFor, ImageGrant, NewToken, TokenState, TokenView
from auth.secret import Secret
from auth.signing_keys import LocalSigningKeys

DEFAULT_TTL_S = 10 * 60
_ID_BYTES = 16
_PULL = ("pull",)


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A new pull token. `token` is shown to the operator once and not stored."""

    token_id: str
    token: Secret
    expires_at: datetime


class IssuedTokens:
    """Shows, completes and revokes pull tokens, which needs no keys.

    All methods raise `LedgerUnavailableError` if the ledger does not answer.

    Args:
        context: Shared dependencies and names.
    """

    def __init__(self, context: AuthContext) -> None:
        self._context = context

    async def show(self, token_id: str) -> TokenView:
        """Return the state of a token and its session.

        Raises:
            TokenNotFoundError: The token does not exist, or ended more than an hour ago.
        """
        return await self._context.ledger.show(token_id)

    async def complete(self, token_id: str) -> TokenView:
        """End a token whose pull is complete. Running responses continue to their end.

        Does nothing if the token has already ended.


        Raises:
            TokenNotFoundError: No such token.
        """
        return await self._end(token_id, TokenState.DONE, AuthEventType.TOKEN_COMPLETED)

    async def revoke(self, token_id: str) -> TokenView:
        """Revoke a token. No request can start, and running responses stop at their next report.

        Does nothing if the token has already ended.


        Raises:
            TokenNotFoundError: No such token.
        """
        return await self._end(token_id, TokenState.REVOKED, AuthEventType.TOKEN_REVOKED)

    async def revoke_node(self, node_id: str) -> int:
        """Revoke all tokens of a node, and block new ones for a minute. Returns their number."""
        count = await self._context.ledger.revoke_node(node_id)
        if count:
            await self._record(AuthEventType.TOKEN_REVOKED, node_id=node_id, detail={"tokens": count})
        return count

    async def revoke_group(
        self, group_id: str, *, organization: str | None = None, barred: bool = True
    ) -> int:
        """Revoke all tokens of a group. Returns their number.

        Args:
            group_id: Id of the group.
            organization: Organization of the group, for the audit trail.
            barred: Whether to block new tokens for a minute, so that a concurrent mint is refused too.
        """
        count = await self._context.ledger.revoke_group(group_id, barred=barred)
        detail = {"tokens": count, "group_id": group_id}
        await self._record(AuthEventType.TOKEN_REVOKED, organization=organization, detail=detail)
        return count

    async def revoke_organization(self, name: str) -> int:
        """Revoke all tokens of an organization, and block new ones for a minute. Returns their number."""
        count = await self._context.ledger.revoke_organization(name)
        await self._record(AuthEventType.TOKEN_REVOKED, organization=name, detail={"tokens": count})
        return count

    async def _end(
        self, token_id: str, state: Literal[TokenState.DONE, TokenState.REVOKED], event: AuthEventType
    ) -> TokenView:
        before = await self._context.ledger.end(token_id, state)
        view = await self._context.ledger.show(token_id)
        if before is not view.state:
            await self._record(event, token_id=token_id, node_id=view.node_id, organization=view.organization)
        return view

    async def _record(
        self,
        event: AuthEventType,
        *,
        token_id: str | None = None,
        node_id: str | None = None,
        organization: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        await self._context.audit.record(
            AuditEvent(
                event, organization=organization, token_id=token_id, node_id=node_id, detail=detail or {}
            )
        )


class Authority(IssuedTokens):
    """Mints pull tokens, and shows, completes and revokes them.

    All methods raise `LedgerUnavailableError` if the ledger does not answer.

    Args:
        keys: Private keys that sign tokens.
        context: Shared dependencies and names.
    """

    def __init__(self, keys: LocalSigningKeys, context: AuthContext) -> None:
        super().__init__(context)
        self._keys = keys

    def issue(self) -> "Issue":
        """Return the id and the time of a token to be minted."""
        return Issue(_new_token_id(), self._context.clock.now().replace(microsecond=0))

    async def mint(
        self,
        *,
        organization: str,
        group_id: str,
        repository: str,
        image: ImageGrant,
        node: Node,
        ttl_s: int | None = None,
        issue: "Issue | None" = None,
        encrypted: EncryptedFor | None = None,
    ) -> MintedToken:
        """Mint a token for one pull of one image by one node.

        The caller has checked that the node and the group exist. If either was revoked meanwhile, or within
        the last minute, no token is minted.

        Args:
            organization: The tenant.
            group_id: The group whose image it is.
            repository: Repository from which the node will pull.
            image: Image that the token grants.
            node: Node that may redeem the token. Its binding is stored in the ledger with the token.
            ttl_s: Lifetime of the unredeemed token; 10 min by default, 15 min at most.
            issue: Result of `issue`, if the caller has used it to encrypt the image.
            encrypted: How layers are encrypted for the node; None for plaintext.

        Raises:
            TtlOutOfRangeError: `ttl_s` is not between 1 and 900.
            MintRefusedError: Node, group or organization were revoked meanwhile, or the group or organization
                within the last minute.
        """
        ttl_s = DEFAULT_TTL_S if ttl_s is None else ttl_s
        if not 0 < ttl_s <= MAX_TTL_S:
            raise TtlOutOfRangeError(ttl_s, MAX_TTL_S)
        issue = issue or self.issue()
        new = NewToken(
            issue.token_id,
            organization,
            group_id,
            repository,
            node.node_id,
            image,
            ttl_s=ttl_s,
            binding=node.node_binding,
            encrypted=encrypted,
        )
        token = self._sign(new, issue)
        await self._context.ledger.mint(new)
        detail: dict[str, object] = {"repository": repository}
        if encrypted is not None:
            detail["encryption_key"] = encrypted.key
        await self._record(
            AuthEventType.TOKEN_MINTED,
            token_id=new.token_id,
            node_id=new.node_id,
            organization=organization,
            detail=detail,
        )
        return MintedToken(new.token_id, token, issue.at + timedelta(seconds=ttl_s))

    def _sign(self, new: NewToken, issue: "Issue") -> Secret:
        claims: dict[str, object] = {
            "iss": self._context.issuer,
            "sub": new.node_id,
            "aud": self._context.service,
            "jti": new.token_id,
            "iat": issue.at_s,
            "nbf": issue.at_s,
            "exp": issue.at_s + int(new.ttl_s),
            "access": [Access("repository", new.repository, _PULL).to_claim()],
            "img": new.image.digest,
            "org": new.organization,
        }
        if new.encrypted is not None:
            claims["enc"] = EncryptionClaim(new.encrypted.key, issue.at_s).to_claim()
        return sign(self._keys, TokenType.PULL, claims)


@dataclass(frozen=True, slots=True)
class Issue:
    """Id of a token, and when it is issued, in whole seconds."""

    token_id: str
    at: datetime

    @property
    def at_s(self) -> int:
        """Time in seconds since 1970."""
        return int(self.at.timestamp())


def _new_token_id() -> str:
    """Return a new id: 128 random bits, not starting with `-`, which commands read as an option."""
    while (token_id := secrets.token_urlsafe(_ID_BYTES)).startswith("-"):
        pass
    return token_id
