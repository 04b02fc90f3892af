"""Static files, held in memory. Their URLs contain a hash of the content, so that browsers can cache them."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from types import MappingProxyType
from typing import Final, NamedTuple

from aiohttp import hdrs, web

PREFIX: Final = "/static/portal/"

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_VERSION_HEX: Final = 12


class _Asset(NamedTuple):
    content: bytes
    gzipped: bytes
    media_type: str
    version: str


@cache
def _assets() -> Mapping[str, _Asset]:
    found = {}
    for file in (files("registry.portal") / "static").iterdir():
        media_type = _TYPES.get(PurePath(file.name).suffix)
        if media_type is not None:
            content = file.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:_VERSION_HEX]
            found[file.name] = _Asset(content, gzip.compress(content, mtime=0), media_type, version)
    return MappingProxyType(found)


def static_addresses() -> Mapping[str, str]:
    """Return the URL of each file by its name."""
    return {name: f"{PREFIX}{name}?v={asset.version}" for name, asset in _assets().items()}


async def serve_asset(request: web.Request) -> web.Response:
    """Serve a static file. A request with a version gets a response that never expires."""
    asset = _assets().get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    kept = "public, max-age=31536000, immutable" if "v" in request.query else "no-cache"
    headers = {hdrs.CACHE_CONTROL: kept, "X-Content-Type-Options": "nosniff", hdrs.VARY: hdrs.ACCEPT_ENCODING}
    body = asset.content
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        body = asset.gzipped
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return web.Response(body=body, headers=headers, content_type=asset.media_type, charset="utf-8")
