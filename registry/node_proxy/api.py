"""HTTP API of the proxy: the part of the distribution-spec that a pull needs."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from cachetools import LRUCache, TTLCache

from auth.secret import Secret
from registry.errors import ProxyAccessError
from registry.node_proxy.access import LocalAccess
from registry.node_proxy.cache import LayerCache
from registry.node_proxy.completion import PullCompletion
from registry.node_proxy.download import LayerDownloads
from registry.node_proxy.layers import EncryptedBlob
from registry.node_proxy.pull import Pull
from registry.node_proxy.registry_session import Registry, RegistrySession
from registry.node_proxy.responses import BlobResponse, error_response, verified, with_errors
from registry.pull.ranges import parse_ranges
from storage.digest import Digest

_MAX_PULLS: Final = 64
_MAX_CONFIGS: Final = 4096
_PULL_LIFETIME_S: Final = 24 * 3600
_TOKEN: Final = web.RequestKey("pull token", Secret)
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="crisper node proxy"'}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Served:
    pull: Pull
    completion: PullCompletion


class ProxyApi:
    """Handlers of the proxy.

    Args:
        access: Checks the callers.
        registry: The registry, as this node.
        cache: Has the ciphertext of layers.
        key_folder: Folder of the node's private keys.
    """

    def __init__(self, access: LocalAccess, registry: Registry, cache: LayerCache, key_folder: Path) -> None:
        self._access = access
        self._registry = registry
        self._cache = cache
        self._key_folder = key_folder
        self._downloads = LayerDownloads(cache)
        self._served: LRUCache[Digest, bool] = LRUCache(_MAX_CONFIGS)
        self._damaged: LRUCache[Digest, bool] = LRUCache(_MAX_CONFIGS)
        self._pulls: TTLCache[tuple[bytes, str], _Served] = TTLCache(_MAX_PULLS, _PULL_LIFETIME_S)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[with_errors, self._check_access])
        app.router.add_get("/v2/", self.version)
        app.router.add_get("/v2/{name:.+}/manifests/{reference}", self.manifest)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self.blob)
        return app

    @web.middleware
    async def _check_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._access.check_caller(request.remote, request.host)
        try:
            request[_TOKEN] = self._access.pull_token(request.headers.get(hdrs.AUTHORIZATION, ""))
        except ProxyAccessError as error:
            return error_response(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", str(error), _CHALLENGE)
        return await handler(request)

    async def version(self, _request: web.Request) -> web.Response:
        """Respond to a client's version check, and to `docker login`."""
        return web.json_response({})

    async def manifest(self, request: web.Request) -> web.Response:
        """Return an original manifest or index."""
        served = self._pull(request)
        document = await served.pull.document(request.match_info["reference"])
        if document.manifest is not None:
            served.completion.add_manifest(document.digest, document.manifest)
        headers = {
            hdrs.CONTENT_TYPE: document.media_type,
            hdrs.ETAG: f'"{document.digest}"',
            "Docker-Content-Digest": str(document.digest),
        }
        return web.Response(body=document.body, headers=headers)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Return an original layer, or a blob that is not encrypted."""
        served = self._pull(request)
        digest = Digest.parse(request.match_info["digest"])
        layer = await served.pull.layer(digest)
        if layer is not None:
            return await self._send_layer(request, served, layer)
        async with served.pull.session.blob(digest) as (size_bytes, content):
            response = BlobResponse(digest, size_bytes)
            with served.completion.response(digest):
                sent = await response.send(request, verified(digest, content))
            self._served[digest] = True
            return sent

    async def _send_layer(
        self, request: web.Request, served: _Served, layer: EncryptedBlob
    ) -> web.StreamResponse:
        asked = request.headers.get(hdrs.RANGE)
        # A client that continues a damaged response would keep what it has: it gets the whole layer, as RFC
        # 9110, section 14.2, allows. Docker discards it, and then starts again without a range.
        is_restart = asked is not None and layer.plaintext in self._damaged
        ranges = parse_ranges(None if is_restart else asked, layer.size_bytes)
        response = BlobResponse(layer.plaintext, layer.size_bytes, ranges[0] if len(ranges) == 1 else None)
        if request.method == hdrs.METH_HEAD:
            return response.head()
        async with self._downloads.open(layer, served.pull.session) as download:
            span = response.span
            content = download.read(span.start, span.start + span.length)
            try:
                with served.completion.response(layer.plaintext, counts=not is_restart):
                    sent = await response.send(request, content)
            finally:
                if download.is_damaged:
                    self._damaged[layer.plaintext] = True
            if not is_restart:
                self._damaged.pop(layer.plaintext, None)
                await download.mark_served()
            return sent

    def _pull(self, request: web.Request) -> _Served:
        token, repository = request[_TOKEN], request.match_info["name"]
        key = (hashlib.sha256(token.reveal().encode()).digest(), repository)
        served = self._pulls.get(key)
        if served is None:
            pull = Pull(RegistrySession(self._registry, token, repository), self._key_folder)

            async def report() -> None:
                self._pulls.pop(key, None)  # a token is for one pull
                is_reported = await pull.session.report_complete()
                _log.info("proxy.pull_complete", repository=repository, reported=is_reported)

            served = _Served(pull, PullCompletion(self._was_served(pull), report))
            self._pulls[key] = served
        return served

    def _was_served(self, pull: Pull) -> Callable[[Digest], bool]:
        def was_served(digest: Digest) -> bool:
            layer = pull.layers.get(digest)
            return digest in self._served if layer is None else self._cache.was_served(layer.ciphertext)

        return was_served
