"""Redemptions and the audit trail of a whole server: killed, stopped, and with nodes that are deleted."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CrisperServer, PullToken
from tests.support.http import request
from tests.support.processes import wait_until
from tests.support.upstream import Upstream


@pytest.fixture
def own(folder: Path, upstream: Upstream) -> Iterator[Shop]:
    with CrisperServer(folder / "server", insecure_registries=[upstream.host]) as server:
        yield open_shop(server, upstream, images.multi_platform())


def redeemed(shop: Shop) -> list[str]:
    """Return the token ids of all redemptions in the catalog's file, in order."""
    with closing(sqlite3.connect(shop.server.data_dir / "catalog.db")) as catalog:
        found = catalog.execute("SELECT token_id FROM events WHERE type = 'token.redeemed' ORDER BY cursor")
        return [token_id for (token_id,) in found]


def test_a_server_killed_under_load_loses_no_redemption_event(own: Shop) -> None:
    tokens = [own.mint() for _ in range(200)]
    answered: list[str] = []

    def exchange(token: PullToken) -> None:
        with suppress(OSError, AssertionError):
            own.exchange(token).expect(200)
            answered.append(token.token_id)

    for batch in (tokens[:100], tokens[100:]):
        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(exchange, token) for token in batch]
            sent[60].result()
            own.server.kill9()
        own.server.start()
    opened = {token.token_id for token in tokens if own.server.operator.token_state(token) == "active"}
    assert set(answered) <= opened
    assert len(answered) >= 100
    wait_until(lambda: len(redeemed(own)) >= len(opened), timeout_s=10, what="all events are in the trail")
    assert sorted(redeemed(own)) == sorted(opened)


def test_a_server_that_is_stopped_has_written_every_redemption(own: Shop) -> None:
    tokens = [own.mint() for _ in range(30)]
    for token in tokens:
        own.exchange(token).expect(200)
    assert own.server.stop() == 0
    assert redeemed(own) == [token.token_id for token in tokens]
    own.server.start()


def test_redemptions_are_counted_in_the_metrics(own: Shop) -> None:
    own.server.operator.redemptions(_used_twice(own))
    expected = ('transition="redeemed"} 1.0', 'transition="exchanged"} 1.0')
    wait_until(lambda: all(each in _metrics(own) for each in expected), timeout_s=10, what=str(expected))


def _used_twice(shop: Shop) -> PullToken:
    token = shop.mint()
    for _ in range(2):
        shop.exchange(token).expect(200)
    return token


def _metrics(shop: Shop) -> str:
    return request("GET", f"{shop.server.url}/metrics").expect(200).body.decode()


def test_no_token_of_a_deleted_node_is_redeemed(own: Shop) -> None:
    operator = own.server.operator
    for _ in range(5):
        node = operator.create_node()
        minted: list[PullToken] = []

        def mint(_: int, node=node, minted=minted) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
            with suppress(AssertionError):  # 409: the node was deleted
                minted.append(own.mint(node))

        with ThreadPoolExecutor(8) as pool:
            minting = pool.map(mint, range(24))
            operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
            list(minting)
        assert [own.exchange(token, node).status for token in minted] == [401] * len(minted)
        operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
    operator.call("DELETE", "/nodes/nobody").expect(404)
