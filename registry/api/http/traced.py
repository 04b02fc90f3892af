"""Middleware that records a span for every request (docs/tracing.md)."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry import tracing

_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("GET", "/token"): "redeem",
        ("POST", "/token"): "redeem",
        ("POST", "/api/v1/pull-tokens"): "mint",
        ("GET", "/v2/{name}/manifests/{reference}"): "manifest",
        ("HEAD", "/v2/{name}/manifests/{reference}"): "manifest",
        ("GET", "/v2/{name}/blobs/{reference}"): "blob",
        ("HEAD", "/v2/{name}/blobs/{reference}"): "blob",
    }
)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


def traced() -> list[Middleware]:
    """Return the middleware that records spans; none if tracing is off."""
    return [_trace] if tracing.enabled() else []


@web.middleware
async def _trace(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    method = request.method if request.method in _METHODS else "_OTHER"
    name = _NAMES.get((method, route), f"{method} {route}")
    # Only the route: a path or a query might contain secrets.
    with tracing.span(name, _parent(request)) as span:
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.route", route)
        response = await handler(request)
        span.set_attribute("http.response.status_code", response.status)
        if response.status >= _SERVER_ERROR:
            tracing.fail(span, str(response.status))
        elif response.status < _CLIENT_ERROR and "reference" in request.match_info:
            span.set_attribute("crisper.repository", request.match_info["name"])
            span.set_attribute("crisper.reference", request.match_info["reference"])
        return response


def _parent(request: web.Request) -> Mapping[str, str]:
    given = request.headers.get("traceparent")
    return {"traceparent": given} if given else {}
