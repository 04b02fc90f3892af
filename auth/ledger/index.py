"""Indexes of tokens by node, group and organization, for their revocation.

ptx:{n:<node>}       token ids
ptx:{g:<group>}      token ids
ptx:{o:<name>}       group ids
ptx:{..}:bar         the scope has just been revoked

The indexes are sorted sets. The score is the time after which an entry is irrelevant. Each is on its own
cluster slot. docs/adr/0007-revocation-indexes.md explains why the order of steps leaves no gap.
"""

from typing import Protocol

from auth.ledger.limits import LedgerLimits
from auth.ledger.scripts import Script, ScriptRunner
from auth.records import MAX_TTL_S, NewToken, TokenState

_INDEX, _SWEEP = Script("index"), Script("sweep")
_PAGE = 200


class EndToken(Protocol):
    """Callable that ends a token, or leaves a tombstone if the token does not exist yet."""

    async def __call__(self, token_id: str, state: TokenState, *, plant: bool) -> TokenState | None:
        """End a token. Returns its previous state, or None if it did not exist."""


class RevocationIndex:
    """Maintains the indexes, and revokes all tokens in one of them."""

    def __init__(self, runner: ScriptRunner, limits: LedgerLimits, end: EndToken) -> None:
        self._runner = runner
        self._end = end
        self._barrier_ms = round(limits.barrier_s * 1000)
        self._life_ms = round((MAX_TTL_S + limits.leeway_s + limits.cap_s) * 1000)

    async def enter(self, token: NewToken) -> bool:
        """Add a token before it is minted. Returns False if its scope has just been revoked."""
        entries = {
            f"n:{token.node_id}": token.token_id,
            f"g:{token.group_id}": token.token_id,
            f"o:{token.organization}": token.group_id,
        }
        for scope, member in entries.items():
            if not await self._runner.run(_INDEX, _keys(scope), member, self._life_ms):
                return False
        return True

    async def forget(self, token_id: str, node_id: str, group_id: str) -> None:
        """Remove the entries of a token that has ended."""
        for scope in (f"n:{node_id}", f"g:{group_id}"):
            await self._runner.run(_SWEEP, _keys(scope), 0, 0, token_id)

    async def revoke_node(self, node_id: str) -> int:
        """Revoke a node's tokens, behind a barrier."""
        return await self._sweep(f"n:{node_id}", self._barrier_ms)

    async def revoke_group(self, group_id: str, *, barred: bool = True) -> int:
        """Revoke all tokens of a group. `barred` blocks new ones for a while. Returns their number."""
        return await self._sweep(f"g:{group_id}", self._barrier_ms if barred else 0)

    async def revoke_organization(self, name: str) -> int:
        """Revoke all tokens of an organization's groups, and block new ones for a while."""
        revoked = 0
        scope = f"o:{name}"
        groups = await self._page(scope, self._barrier_ms, [])
        while groups:
            for group_id in groups:
                revoked += await self.revoke_group(group_id)
            groups = await self._page(scope, 0, groups)
        return revoked

    async def _sweep(self, scope: str, barrier_ms: int) -> int:
        revoked = 0
        members = await self._page(scope, barrier_ms, [])
        while members:
            before = [await self._end(member, TokenState.REVOKED, plant=True) for member in members]
            revoked += sum(state in {TokenState.MINTED, TokenState.ACTIVE} for state in before)
            members = await self._page(scope, 0, members)
        return revoked

    async def _page(self, scope: str, barrier_ms: int, dealt_with: list[str]) -> list[str]:
        members = await self._runner.run(_SWEEP, _keys(scope), barrier_ms, _PAGE, *dealt_with)
        return [member.decode() for member in members]


def _keys(scope: str) -> list[str]:
    return [f"ptx:{{{scope}}}", f"ptx:{{{scope}}}:bar"]
