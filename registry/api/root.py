"""The root application: mounts all APIs and applies the middlewares of every request."""

import time
from collections.abc import Iterable, Mapping
from functools import cache

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_urldispatcher import PrefixedSubAppResource

from registry.api.http.edge import hide_server_version, plain_addresses, transport_security
from registry.api.http.origin import Origin
from registry.api.http.paced import Pacing
from registry.api.http.peers import Peers, identified
from registry.api.http.problems import errors_as, problem_response
from registry.api.http.traced import traced
from registry.observe import Metrics

_SURFACES = ("/v2", "/token", "/api/public", "/api/v1", "/edge")


def root_app(
    mounted: Mapping[str, web.Application],
    routes: Iterable[web.RouteDef],
    metrics: Metrics,
    peers: Peers,
    origin: Origin,
    *,
    pacing: Pacing,
) -> web.Application:
    """Mount the applications by prefix. Unknown addresses get a problem as the response.

    Args:
        pacing: Sends large responses.
    """
    hide_server_version()
    app = web.Application(
        middlewares=[
            pacing.middleware(),
            *traced(),
            _measured(metrics),
            errors_as(problem_response, challenge=lambda *_: "Bearer"),
            plain_addresses(),
            identified(peers),
        ]
    )
    app.add_routes(routes)
    for prefix, part in mounted.items():
        app.add_subapp(prefix, part)
    app.on_startup.append(_require_inside)
    app.on_response_prepare.append(transport_security(origin.is_secure))
    return app


async def _require_inside(app: web.Application) -> None:
    """Refuse to start if a root route shadows a mounted application."""
    mounted = [one for one in app.router.resources() if isinstance(one, PrefixedSubAppResource)]
    for resource in app.router.resources():
        path = resource.canonical
        if resource not in mounted and any(f"{path}/".startswith(f"{one.canonical}/") for one in mounted):
            raise RuntimeError(f"The route {path} is inside a mounted application. Declare it there.")


def _measured(metrics: Metrics) -> Middleware:
    # Cached, because the library takes a lock for each lookup by labels.
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
