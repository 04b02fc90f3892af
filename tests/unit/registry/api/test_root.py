from typing import cast

import pytest
from aiohttp import web

from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.http.peers import Peers
from registry.api.root import root_app
from registry.observe import Metrics


async def plain(_request: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
def root() -> web.Application:
    return root_app(
        {"/v2": web.Application()},
        [web.get("/healthz", plain)],
        Metrics(),
        cast("Peers", None),
        Origin(None, "crisper"),
        pacing=Pacing(9),
    )


async def test_a_root_with_routes_of_its_own_starts(root: web.Application) -> None:
    root.router.add_get("/v20/plain", plain)
    runner = web.AppRunner(root)
    await runner.setup()
    await runner.cleanup()


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/{name:.+}/blobs/{reference}"])
async def test_a_route_in_place_of_a_mounted_application_stops_the_start(
    root: web.Application, path: str
) -> None:
    root.router.add_get(path, plain)
    with pytest.raises(RuntimeError, match="inside a mounted application"):
        await web.AppRunner(root).setup()
