"""The gate of `/v2/`, before handlers that a test adds: real bearers, a real ledger."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from auth.claims import SessionClaims
from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.v2 import gate as gates
from registry.api.v2.application import PREFIX
from registry.api.v2.gate import Admitted, BlobParts, Gate, Granted, MeteredRoute, Route
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.pull.session_image import SessionImage
from storage.digest import Digest
from tests.support.authorities import REPOSITORY, AuthStack
from tests.support.ledgers import CONFIG, IMAGE, LAYER

SIZES = {CONFIG: (ContentKind.CONFIG, 100), LAYER: (ContentKind.LAYER, 900)}
STORED = StoredImage(
    Digest.parse(IMAGE.digest),
    Digest.parse(IMAGE.digest),
    "linux/amd64",
    tuple(
        ImageContent(Digest.parse(digest), kind, "application/octet-stream", size)
        for digest, (kind, size) in SIZES.items()
    ),
    1000,
)


class OneImage:
    """One image for all sessions."""

    async def of(self, _claims: SessionClaims, _repository: str, digest: str) -> SessionImage | None:
        return SessionImage.plain(STORED) if digest == IMAGE.digest else None


class Added:
    """Handlers that somebody adds, and what they were handed."""

    def __init__(self) -> None:
        self.handed: list[tuple[str, Admitted]] = []

    def routes(self) -> list[Route | MeteredRoute]:
        return [
            Route("/{name:.+}/added", self.get),
            MeteredRoute("/{name:.+}/metered/{reference}", self.select, self.deliver, self.get),
            MeteredRoute("/{name:.+}/failing/{reference}", self.select, self.fail, self.get),
        ]

    async def get(self, _request: web.Request, admitted: Admitted) -> web.Response:
        self.handed.append(("get", admitted))
        return web.Response(text="content")

    def select(self, request: web.Request, image: SessionImage) -> BlobParts | None:
        content = image.visible.content(Digest.parse(request.match_info["reference"]))
        return BlobParts(content, ()) if content else None

    async def deliver(
        self,
        _request: web.Request,
        admitted: Admitted,
        wanted: BlobParts,
        granted: Granted,
    ) -> web.Response:
        self.handed.append(("deliver", admitted))
        for span, delivery in zip(wanted.spans, granted.meters, strict=True):
            delivery.sent(span.start, span.length)
        return web.Response(body=b"x" * sum(span.length for span in wanted.spans))

    async def fail(
        self,
        _request: web.Request,
        _admitted: Admitted,
        _wanted: BlobParts,
        _granted: Granted,
    ) -> web.Response:
        raise OSError("the disk is gone")


def mounted(stack: AuthStack, routes: Iterable[Route | MeteredRoute]) -> web.Application:
    gate = Gate(
        stack.verifier,
        OneImage(),
        NodeConcurrencyLimit(4, 4),
        Origin("https://registry.test", "test"),
        pacing=Pacing(9),
    )
    root = web.Application()
    root.add_subapp(PREFIX, gate.app(routes))
    return root


@asynccontextmanager
async def serving(root: web.Application) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestServer(root) as server:
        client: TestClient[Any, Any] = TestClient(server)
        async with client:
            yield client


async def get(
    client: TestClient[Any, Any], path: str, bearer: str, repository: str = REPOSITORY, method: str = "GET"
) -> ClientResponse:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return await client.request(method, f"{PREFIX}/{repository}/{path}", headers=headers)


async def session(stack: AuthStack) -> tuple[str, str]:
    minted = await stack.mint()
    grant = await stack.realm.exchange(stack.request(minted.token, source="127.0.0.1"))
    return minted.token_id, grant.token.reveal()


PATHS = ("added", f"metered/{LAYER}", "metered/sha256:" + "0" * 64)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_added_handler_runs_after_the_ledgers_yes(stack: AuthStack, path: str, method: str) -> None:
    added = Added()
    _, bearer = await session(stack)
    async with serving(mounted(stack, added.routes())) as client:
        assert (await get(client, path, bearer, method=method)).status == 200
    ((_, admitted),) = added.handed
    assert (admitted.claims.repository, admitted.image.stored) == (REPOSITORY, STORED)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_added_handler_gets_nothing_without_the_ledgers_yes(
    stack: AuthStack, path: str, method: str
) -> None:
    added = Added()
    token_id, bearer = await session(stack)
    revoked_id, revoked = await session(stack)
    await stack.authority.revoke(revoked_id)
    completed_id, completed = await session(stack)
    await stack.authority.complete(completed_id)
    async with serving(mounted(stack, added.routes())) as client:
        statuses = [
            (await get(client, path, shown, repository, method)).status
            for shown, repository in [
                ("", REPOSITORY),
                ("guess", REPOSITORY),
                (revoked, REPOSITORY),
                (completed, REPOSITORY),
                (bearer, "acme/factory/other"),
            ]
        ]
    assert statuses == [401, 401, 401, 401, 403]
    assert added.handed == []
    assert (await stack.authority.show(token_id)).session is not None


async def test_only_what_was_selected_counts_against_the_budget(stack: AuthStack) -> None:
    added = Added()
    token_id, bearer = await session(stack)
    async with serving(mounted(stack, added.routes())) as client:
        for path, method in (("added", "GET"), (f"metered/{LAYER}", "HEAD"), (f"metered/{LAYER}", "GET")):
            await get(client, path, bearer, method=method)
    assert [name for name, _ in added.handed] == ["get", "get", "deliver"]
    view = (await stack.authority.show(token_id)).session
    assert view is not None
    assert (view.bytes_delivered, view.blobs_complete, view.running) == (900, 1, 0)


async def test_a_delivery_that_fails_gives_its_budget_back(stack: AuthStack) -> None:
    token_id, bearer = await session(stack)
    async with serving(mounted(stack, Added().routes())) as client:
        assert [(await get(client, f"failing/{LAYER}", bearer)).status for _ in range(5)] == [500] * 5
        assert (await get(client, f"metered/{LAYER}", bearer)).status == 200
    view = (await stack.authority.show(token_id)).session
    assert view is not None
    assert (view.bytes_delivered, view.running) == (900, 0)


async def plain(_request: web.Request) -> web.Response:
    return web.Response(text="content")


@pytest.mark.parametrize("path", ["/{name:.+}/plain", "/", "/{name:.+}/added"])
async def test_an_application_with_a_plain_handler_does_not_start(stack: AuthStack, path: str) -> None:
    gate = Gate(
        stack.verifier,
        OneImage(),
        NodeConcurrencyLimit(4, 4),
        Origin("https://registry.test", "test"),
        pacing=Pacing(9),
    )
    app = gate.app(Added().routes())
    app.router.add_route("POST", path, plain)
    root = web.Application()
    root.add_subapp(PREFIX, app)
    with pytest.raises(RuntimeError, match="plain handler"):
        await web.AppRunner(root).setup()


def test_nothing_else_makes_what_a_handler_takes() -> None:
    for capability in (None, object(), gates._Capability()):
        with pytest.raises(TypeError, match="Only the gate"):
            Admitted(capability, None, STORED)  # type: ignore[arg-type]
