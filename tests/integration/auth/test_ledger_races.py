"""A thousand redemptions of one token at once: one session for any mix of callers.

`CRISPER_TEST_ROUNDS=20` repeats it more often.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from auth.errors import RefusedError
from auth.ledger import RedisTokenLedger, connect
from auth.records import NewToken
from tests.support.ledgers import new_token, some_id
from tests.support.redis_server import RedisServer

ROUNDS = int(os.environ.get("CRISPER_TEST_ROUNDS", "3"))
CROWD = 1000


@pytest.fixture
async def ledgers(server: RedisServer) -> AsyncIterator[list[RedisTokenLedger]]:
    """Return four servers' worth of ledgers, each with connections of its own."""
    clients = [connect(server.url, socket_timeout_s=5) for _ in range(4)]
    yield [RedisTokenLedger(client, timeout_s=30) for client in clients]
    for client in clients:
        await client.aclose()


async def attempt(ledger: RedisTokenLedger, token: NewToken, node_id: str) -> str:
    try:
        session = await ledger.redeem(token.token_id, node_id, some_id())
    except RefusedError as refusal:
        return refusal.cause.value
    return f"{'new' if session.opened else 'same'} {session.session_id}"


async def crowd(ledgers: list[RedisTokenLedger], token: NewToken, nodes: list[str]) -> Counter[str]:
    await ledgers[0].mint(token)
    return Counter(
        await asyncio.gather(
            *(attempt(ledgers[number % len(ledgers)], token, node) for number, node in enumerate(nodes))
        )
    )


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_of_a_thousand_nodes_exactly_one_opens_a_session(
    ledgers: list[RedisTokenLedger], round_: int
) -> None:
    own = (round_ * 487) % CROWD
    found = await crowd(ledgers, new_token(node_id=f"node-{own}"), [f"node-{n}" for n in range(CROWD)])
    assert found.pop("wrong_node") == CROWD - 1
    ((outcome, count),) = found.items()
    assert (outcome.split()[0], count) == ("new", 1)


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_a_thousand_redemptions_by_one_node_are_one_session(
    ledgers: list[RedisTokenLedger], round_: int
) -> None:
    del round_
    found = await crowd(ledgers, new_token(), ["node-1"] * CROWD)
    kinds = Counter(
        {kind: sum(c for o, c in found.items() if o.startswith(kind)) for kind in ("new", "same")}
    )
    assert kinds == {"new": 1, "same": CROWD - 1}
    assert len({outcome.split()[1] for outcome in found}) == 1
