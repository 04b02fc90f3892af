"""The whole HTTP surface: which application answers where, and what every request passes through."""

import time
from collections.abc import Iterable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.api.peers import Peers, identified
from registry.api.problems import errors_as, problem_response
from registry.api.traced import traced
from registry.observe import Metrics

_SURFACES = ("/v2", "/token", "/api/public", "/api/v1")


def root_app(
    mounted: Mapping[str, web.Application], routes: Iterable[web.RouteDef], metrics: Metrics, peers: Peers
) -> web.Application:
    """Mount the applications by prefix; addresses that nobody serves are answered as a problem."""
    app = web.Application(
        middlewares=[
            *traced(),
            _measured(metrics),
            errors_as(problem_response, challenge=lambda *_: "Bearer"),
            identified(peers),
        ]
    )
    app.add_routes(routes)
    for prefix, part in mounted.items():
        app.add_subapp(prefix, part)
    return app


def _measured(metrics: Metrics) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        surface = next((s for s in _SURFACES if request.path.startswith(s)), "other")
        started = time.perf_counter()
        response = await handler(request)
        metrics.latency.labels(surface).observe(time.perf_counter() - started)
        metrics.requests.labels(surface, str(response.status)).inc()
        return response

    return measure
