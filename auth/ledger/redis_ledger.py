"""Token ledger on Redis or Valkey (docs/tokens.md, "The ledger")."""

from typing import Literal

from redis.asyncio import RedisCluster

from auth.binding import decode_binding, encode_proof
from auth.errors import (
    Cause,
    LedgerUnavailableError,
    MintRefusedError,
    OutsideScopeError,
    RefusedError,
    TokenNotFoundError,
)
from auth.ledger.clock import LedgerClock
from auth.ledger.connect import LedgerClient
from auth.ledger.fields import count_parts, decode_view, encode_blob, encode_new
from auth.ledger.index import RevocationIndex
from auth.ledger.keys import LedgerKeys
from auth.ledger.limits import LedgerLimits
from auth.ledger.scripts import Script, ScriptRunner
from auth.ledger.stream import encode_event
from auth.ports import AuditEvent
from auth.records import NewToken, NodeBinding, NodeProof, Redemption, TokenState, TokenView

_MINT, _REDEEM, _BEGIN, _REPORT, _END, _SHOW = (
    Script(name, prelude="session") for name in ("mint", "redeem", "begin", "report", "end", "show")
)


class RedisTokenLedger:
    """Token ledger in Redis. It is an allow-list: if its data is lost, all pulls are refused.

    Every method runs one script in one hash slot and can be repeated safely. It raises
    `LedgerUnavailableError` if Redis gives no valid answer in time.

    Args:
        redis: Client from `auth.ledger.connect`; the caller closes it.
        limits: Limits of tokens and sessions. All servers of one ledger must have the same.
        timeout_s: Timeout for one ledger call, including retries.
        replicated: Whether a failover is possible. If so, an unredeemed token is valid only on the primary
            that minted it.
        min_replicas: Number of replicas that must have a redemption, completion or revocation before it
            is answered. Implies `replicated`.
        replicas_timeout_s: Seconds to wait for the replicas.
    """

    def __init__(
        self,
        redis: LedgerClient,
        limits: LedgerLimits | None = None,
        *,
        timeout_s: float = 4,
        replicated: bool = False,
        min_replicas: int = 0,
        replicas_timeout_s: float = 10,
    ) -> None:
        self.limits = limits or LedgerLimits()
        self._keys = LedgerKeys(sharded=isinstance(redis, RedisCluster))
        self._limits_json = self.limits.as_json(
            fence=replicated or min_replicas > 0, streams=len(self._keys.streams)
        )
        self._runner = ScriptRunner(
            redis, timeout_s=timeout_s, replicas=min_replicas, replicas_timeout_s=replicas_timeout_s
        )
        self._clock = LedgerClock(self.limits.keep_s / 2)
        self._index = RevocationIndex(self._runner, self.limits, self._end)

    async def mint(self, token: NewToken) -> None:
        """Add a token.

        The token is added to the revocation indexes first. A concurrent revocation therefore finds the token,
        or leaves a tombstone, which the mint does not overwrite.

        Raises:
            MintRefusedError: Its node, group or organization was revoked meanwhile, or has just been.
        """
        if not await self._index.enter(token):
            raise MintRefusedError(token.token_id)
        ttl_ms = round(token.ttl_s * 1000)
        reply = await self._run(_MINT, token.token_id, ttl_ms, count_parts(token.image), *encode_new(token))
        if reply[0] != b"ok":
            raise MintRefusedError(token.token_id)

    async def redeem(
        self,
        token_id: str,
        node_id: str,
        session_id: str,
        proof: NodeProof | None = None,
        event: AuditEvent | None = None,
    ) -> Redemption:
        """Open a token's session for its node, or return the session that this node opened.

        The node's proof, the change and the event are one atomic step. The event waits in the ledger until
        the catalog has it (`auth.ledger.stream`).

        `opened` is true if the session has the proposed id, also if a lost reply was retried: no one else
        proposes the same 128 random bits.

        Args:
            token_id: `jti` of the token.
            node_id: Node id that the client claims.
            session_id: Proposed session id, random for this exchange; also the event's id.
            proof: Proof that the client presents. None only for a token without a binding, whose node the
                caller has checked itself.
            event: Event to record. Its type is `token.redeemed`, or `token.exchanged` if the session was
                open; only the first `LEDGER_EXCHANGES` of those are recorded.

        Raises:
            RefusedError: The token is unknown, expired, replayed, revoked, fenced or another node's, or
                the proof is not valid.
            LedgerUnavailableError: Also if more events wait for the catalog than the ledger may hold.
        """
        shown = encode_proof(proof) if proof is not None else (b"", b"", b"")
        recorded = encode_event(event) if event is not None else ""
        reply = await self._redeem(token_id, node_id, session_id, *shown, recorded)
        opened_id, deadline_ms, hard_end_ms, exchanges = reply[1:5]
        return Redemption(
            session_id=opened_id.decode(),
            opened=opened_id == session_id.encode(),
            announce_s=max(0.0, min(int(deadline_ms) / 1000, self.limits.idle_s)),
            hard_end_s=int(hard_end_ms) / 1000,
            exchanges=int(exchanges),
            binding=decode_binding(*reply[5:]),
        )

    async def check(self, token_id: str, node_id: str, proof: NodeProof) -> NodeBinding:
        """Check everything that a redemption checks, without redeeming. Raises the errors of `redeem`."""
        reply = await self._redeem(token_id, node_id, "", *encode_proof(proof), "")
        binding = decode_binding(*reply[5:])
        if binding is None:
            raise RefusedError(Cause.NODE_UNKNOWN, token_id=token_id, node_id=node_id)
        return binding

    async def begin(
        self, token_id: str, session_id: str, response_id: str, *, blob: str | None, length_bytes: int
    ) -> int:
        """Start one request of a session.

        Args:
            token_id: Token of the session.
            session_id: Session id in the bearer token.
            response_id: Random id of the response.
            blob: Digest of the blob; None if the response contains no blob bytes.
            length_bytes: Length of the response. Without a blob, it is charged at once.

        Returns:
            Bytes that may be sent before the next `report`.

        Raises:
            RefusedError: The session has ended or was revoked, or its budget is spent.
            OutsideScopeError: The blob does not belong to the image.
        """
        key = encode_blob(blob) if blob is not None else b""
        reply = await self._run(_BEGIN, token_id, session_id, response_id, key, length_bytes)
        return self._granted(reply, token_id)

    async def report(
        self,
        token_id: str,
        response_id: str,
        *,
        blob: str,
        start: int,
        sent: int,
        length: int,
        ended: bool,
        unread: int = 0,
    ) -> int:
        """Record the progress of a response, and renew its lease or end it.

        Args:
            token_id: Token of the session.
            response_id: Id that was passed to `begin`.
            blob: Digest of the blob.
            start: Offset of the response's first byte in the blob.
            sent: Bytes sent since `start`.
            length: Total length of the response.
            ended: Whether the response has ended.
            unread: How many of the sent bytes the client has not received. They are neither charged nor
                recorded as delivered.

        Returns:
            Total bytes that may be sent before the next `report`.

        Raises:
            RefusedError: The response must stop, because its token was revoked or its budget is spent.
        """
        key = encode_blob(blob)
        reply = await self._run(_REPORT, token_id, response_id, key, start, sent, length, int(ended), unread)
        return self._granted(reply, token_id)

    def stepped_since(self, monotonic_s: float) -> bool:
        """Return whether the ledger's clock has stepped so far that it may have dropped a valid record."""
        return self._clock.stepped_since(monotonic_s)

    async def end(self, token_id: str, state: Literal[TokenState.DONE, TokenState.REVOKED]) -> TokenState:
        """Complete or revoke a token. Returns its previous state.

        Raises:
            TokenNotFoundError: No such token.
        """
        before = await self._end(token_id, state, plant=False)
        if before is None:
            raise TokenNotFoundError(token_id)
        return before

    async def show(self, token_id: str) -> TokenView:
        """Return a token and its session.

        Raises:
            TokenNotFoundError: The token does not exist, or is no longer kept.
        """
        view = decode_view(token_id, await self._run(_SHOW, token_id))
        if view is None:
            raise TokenNotFoundError(token_id)
        return view

    async def revoke_node(self, node_id: str) -> int:
        """Revoke all tokens of a node, and block new ones for a while. Returns their number."""
        return await self._index.revoke_node(node_id)

    async def revoke_group(self, group_id: str, *, barred: bool = True) -> int:
        """Revoke all tokens of a group. `barred` blocks new ones for a while. Returns their number."""
        return await self._index.revoke_group(group_id, barred=barred)

    async def revoke_organization(self, name: str) -> int:
        """Revoke all tokens of an organization, and block new ones for a while. Returns their number."""
        return await self._index.revoke_organization(name)

    async def aclose(self) -> None:
        """Wait for all replies. Call after the last call, and before closing the client."""
        await self._runner.aclose()

    def _granted(self, reply: list[bytes], token_id: str) -> int:
        self._clock.observe(int(reply[1]))
        if reply[0] == b"ok":
            return int(reply[2])
        cause = Cause(reply[0].decode())
        kind = OutsideScopeError if cause is Cause.OUTSIDE_SCOPE else RefusedError
        raise kind(cause, token_id=token_id)

    async def _redeem(self, token_id: str, node_id: str, *args: bytes | str) -> list[bytes]:
        keys = [self._keys.token(token_id), self._keys.stream(token_id)]
        reply = _listed(await self._runner.run_durably(_REDEEM, keys, self._limits_json, node_id, *args))
        if reply == [b"backlog"]:
            raise LedgerUnavailableError("too many events of redemptions wait for the catalog")
        if len(reply) == 1:
            raise RefusedError(Cause(reply[0].decode()), token_id=token_id, node_id=node_id)
        return reply

    async def _end(self, token_id: str, state: TokenState, *, plant: bool) -> TokenState | None:
        plant_ms = round(self.limits.keep_s * 1000) if plant else 0
        reply = await self._run_durably(_END, token_id, state.value, plant_ms)
        if not reply or not reply[2]:
            return None
        before, _, node_id, group_id = (part.decode() for part in reply)
        await self._index.forget(token_id, node_id, group_id)
        return TokenState(before)

    async def _run(self, script: Script, token_id: str, *args: bytes | str | int) -> list[bytes]:
        return _listed(await self._runner.run(script, [self._keys.token(token_id)], self._limits_json, *args))

    async def _run_durably(self, script: Script, token_id: str, *args: bytes | str | int) -> list[bytes]:
        keys = [self._keys.token(token_id)]
        return _listed(await self._runner.run_durably(script, keys, self._limits_json, *args))


def _listed(reply: object) -> list[bytes]:
    if not isinstance(reply, list):
        raise LedgerUnavailableError(
            "the token ledger sent an invalid reply: check that CRISPER_REDIS_URL is a Redis server"
        )
    return reply
