"""The whole HTTP surface: which application answers where, and what every request passes through."""

import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.api import operator, public
from registry.api.http.peers import Peers, identified
from registry.api.http.problems import errors_as, problem_response
from registry.api.http.traced import traced
from registry.api.openapi import Documented, document
from registry.api.operator import operations as operator_operations
from registry.api.public import operations as public_operations
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


def apis_document(mounted: Mapping[str, web.Application]) -> dict[str, Any]:
    """Make the OpenAPI document of those applications that have operations."""
    told = {
        public.PREFIX: (public_operations.OPERATIONS, public_operations.WORDS),
        operator.PREFIX: (operator_operations.OPERATIONS, operator_operations.WORDS),
    }
    return document(
        [
            Documented(prefix, mounted[prefix].router.routes(), operations, words)
            for prefix, (operations, words) in told.items()
            if prefix in mounted
        ]
    )


def _measured(metrics: Metrics) -> Middleware:
    # The library looks a metric up by its labels behind a lock, each time.
    latency = cache(metrics.latency.labels)
    requests = cache(lambda surface, status: metrics.requests.labels(surface, str(status)))

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        surface = next((s for s in _SURFACES if request.path.startswith(s)), "other")
        started = time.perf_counter()
        response = await handler(request)
        latency(surface).observe(time.perf_counter() - started)
        requests(surface, response.status).inc()
        return response

    return measure
