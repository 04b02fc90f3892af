"""`/openapi.json` and `/docs`, which renders it with Swagger UI. All assets are served by this server."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web
from swagger_ui_bundle import swagger_ui_path

_ASSETS: Final = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    hdrs.CACHE_CONTROL: "no-cache",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crisper: the APIs</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="reference"></div>
<noscript>This page renders <a href="/openapi.json">/openapi.json</a> with JavaScript.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
# No validator badge: it would send the document to a third party.
_START: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
});
"""


class ApiReference:
    """Handlers of the document and its page. Both are public."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Store the function that makes the document; it runs at the first request."""
        self._make = make
        self._document: bytes | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the root application."""
        return [
            web.get("/openapi.json", self.document, allow_head=False),
            web.get("/docs", self.page, allow_head=False),
            web.get("/docs/start.js", self.start, allow_head=False),
            web.get("/docs/{asset}", self.asset, allow_head=False),
        ]

    async def document(self, _request: web.Request) -> web.Response:
        """Return the OpenAPI document."""
        if self._document is None:
            self._document = await asyncio.to_thread(self._write)
        return web.Response(body=self._document, content_type="application/json", headers=_HEADERS)

    def _write(self) -> bytes:
        return json.dumps(self._make(), separators=(",", ":")).encode()

    async def page(self, _request: web.Request) -> web.Response:
        """Return the page that renders the document."""
        return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)

    async def start(self, _request: web.Request) -> web.Response:
        """Return the script that starts the renderer."""
        return web.Response(text=_START, content_type="text/javascript", headers=_HEADERS)

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """Return a file of the renderer."""
        name = request.match_info["asset"]
        if name not in _ASSETS:
            raise web.HTTPNotFound
        headers = {**_HEADERS, hdrs.CONTENT_TYPE: _ASSETS[name], hdrs.CACHE_CONTROL: "max-age=86400"}
        return web.FileResponse(swagger_ui_path / name, headers=headers)
