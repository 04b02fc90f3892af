"""`/api/v1/events/stream`, as readers of server-sent events see it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from tests.integration.server.conftest import Shop
from tests.support.crisper import CrisperServer


@contextmanager
def reading(server: CrisperServer, query: str = "", **headers: str) -> Iterator[HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    sent = {"Authorization": f"Bearer {server.operator_key}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", f"/api/v1/events/stream{query}", headers=sent)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def take(response: HTTPResponse, count: int) -> list[dict[str, str]]:
    """Return the next events, each as its fields."""
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    while len(events) < count:
        line = response.readline().decode()
        assert line, "the stream ended"
        name, _, value = line.rstrip("\n").partition(": ")
        if name and value and not line.startswith(":"):
            fields[name] = value
        elif line == "\n" and fields:
            events.append(fields)
            fields = {}
    return events


def test_a_reader_gets_new_events_of_the_requested_types_only(shop: Shop) -> None:
    token = shop.mint()  # redemptions of other tests may still be on their way into the trail
    with reading(shop.server, f"?type=token.redeemed&token_id={token.token_id}") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        shop.bearer(token)
        (event,) = take(response, 1)
    assert event["event"] == "token.redeemed"
    told = json.loads(event["data"])
    assert (told["token_id"], told["cursor"]) == (token.token_id, int(event["id"]))


def test_a_reader_that_comes_back_goes_on_where_it_was(shop: Shop) -> None:
    tokens = [shop.mint().token_id for _ in range(4)]
    (first,) = [e for e in shop.server.operator.events(token_id=tokens[0]) if e["type"] == "token.minted"]
    with reading(shop.server, "?type=token.minted&after=0", Last_Event_ID=str(first["cursor"])) as response:
        assert [json.loads(event["data"])["token_id"] for event in take(response, 3)] == tokens[1:]


def test_a_reader_without_the_operator_key_is_refused(shop: Shop) -> None:
    with reading(shop.server, Authorization="Bearer something") as response:
        assert response.status == 401


def test_a_number_that_is_none_is_refused(shop: Shop) -> None:
    with reading(shop.server, Last_Event_ID="yesterday") as response:
        assert response.status == 400


def test_a_stopping_server_ends_its_streams_and_goes_at_once(folder: Path) -> None:
    with CrisperServer(folder) as server, reading(server) as response:
        response.readline()
        ended: list[bytes] = []
        reader = threading.Thread(target=lambda: ended.append(response.read()))
        reader.start()
        began = time.monotonic()
        assert server.stop() == 0
        reader.join(10)
        assert time.monotonic() - began < 10
        assert len(ended) == 1
