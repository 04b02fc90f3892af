"""A thousand exchanges of one token at once, over HTTP, at several server processes.

`CRISPER_TEST_ROUNDS=20` repeats it more often.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import jwt
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CrisperServer, Node, PullToken
from tests.support.http import basic
from tests.support.upstream import Upstream

ROUNDS = max(1, int(os.environ.get("CRISPER_TEST_ROUNDS", "1")))
CROWD = 1000
STRANGERS = 40


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("races")
    env = {"CRISPER_WORKERS": "2"}
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, images.multi_platform())


async def exchange_all(shop: Shop, token: PullToken, nodes: list[Node]) -> Counter[tuple[int, str]]:
    """Return every answer's status and session."""
    url = f"{shop.server.url}/token?service=crisper&scope=repository:{shop.repository}:pull"
    connector = aiohttp.TCPConnector(limit=100, force_close=True)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:

        async def exchange(node: Node) -> tuple[int, str]:
            shown = {"Authorization": basic(node.node_id, token.password(node))}
            async with client.get(url, headers=shown) as answer:
                body = await answer.json()
                if answer.status != 200:
                    return answer.status, ""
                claims = jwt.decode(body["token"], options={"verify_signature": False})
                return answer.status, claims["sid"]

        return Counter(await asyncio.gather(*map(exchange, nodes)))


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_one_node_gets_one_session_however_often_it_asks_at_once(busy: Shop, round_: int) -> None:
    del round_
    token = busy.mint()
    answers = await exchange_all(busy, token, [busy.node] * CROWD)
    assert list(answers.values()) == [CROWD]
    assert {status for status, _ in answers} == {200}
    redeemed = busy.server.operator.events(type="token.redeemed", token_id=token.token_id)
    assert len(redeemed) == 1


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_among_a_thousand_exchanges_by_many_nodes_only_the_right_one_opens(
    busy: Shop, round_: int
) -> None:
    del round_
    strangers = [busy.server.operator.create_node() for _ in range(STRANGERS)]
    token = busy.mint()
    crowd = [strangers[n % len(strangers)] for n in range(CROWD - 1)]
    crowd.insert(CROWD // 2, busy.node)
    answers = await exchange_all(busy, token, crowd)
    assert answers[401, ""] == CROWD - 1
    assert sorted(answers.values()) == [1, CROWD - 1]
