"""The OCI distribution API, pull only (distribution-spec 1.1, "Pull").

Every request shows a session's bearer, asks the ledger once, and sees its session's image and
nothing else. What is not of that image is refused alike, whether it exists or not.
"""

import re
from http import HTTPStatus
from typing import Final, NoReturn

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.claims import SessionClaims
from auth.delivery import Delivery
from auth.errors import Cause, OutsideScopeError, RefusedError
from auth.verifier import Verifier
from registry.api.origin import Origin
from registry.api.problems import errors_as, oci_response
from registry.api.streaming import BlobStreamer
from registry.api.turns import Turns
from registry.ports import GroupCatalog, ImageContent, StoredImage
from registry.pull.documents import Documents
from registry.pull.ranges import parse_range
from registry.pull.resolve import ImageResolver
from storage.blobs import BlobStore
from storage.errors import BlobRangeError

PREFIX: Final = "/v2"
CLAIMS = web.RequestKey("claims", SessionClaims)

# Unambiguous, so that it is matched in one pass: of 8 KiB, an ambiguous one takes seconds.
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = rf"{{name:{_PART}(?:/{_PART})*}}"
_REPOSITORY = re.compile(r"/v2/((?:[a-z0-9][a-z0-9._-]*/)+[a-z0-9][a-z0-9._-]*)/(?:manifests|blobs|tags)/")
_READS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_MAX_TAGS = 1000


class DistributionApi:
    """Handlers of `/v2/`.

    Args:
        verifier: Stands before every request.
        resolver: Says what the session's image holds.
        blobs: Where the bytes are.
        catalog: For tag lists.
        streamer: Sends blobs and meters them.
        turns: How many of them a node may have at a time.
        origin: Where the realm is, for challenges.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        resolver: ImageResolver,
        blobs: BlobStore,
        catalog: GroupCatalog,
        streamer: BlobStreamer,
        turns: Turns,
        origin: Origin,
    ) -> None:
        self._verifier = verifier
        self._resolver = resolver
        self._blobs = blobs
        self._documents = Documents(blobs)
        self._catalog = catalog
        self._streamer = streamer
        self._turns = turns
        self._origin = origin

    def app(self) -> web.Application:
        """Make the application to mount at `PREFIX`; whatever goes wrong in it is answered as OCI has it."""
        app = web.Application(
            middlewares=[
                errors_as(oci_response, challenge=self._challenge),
                _reads_only,
                self._authenticated(),
            ]
        )
        app.add_routes(
            [
                web.get("/", _version),
                web.get(f"/{_NAME}/manifests/{{reference}}", self.manifest),
                web.get(f"/{_NAME}/blobs/{{reference}}", self.blob),
                web.get(f"/{_NAME}/tags/list", self.tags),
            ]
        )
        return app

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """Answer a manifest or index, by tag or digest (distribution-spec, "Pulling manifests")."""
        claims, image = await self._session(request)
        reference = request.match_info["reference"]
        document = await self._resolver.document(request.match_info["name"], image, reference)
        content = await self._within(request, claims, document)
        await self._begin(request, claims)
        headers = _headers(content, content.media_type)
        if _has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return _head(headers, content.size_bytes)
        return web.Response(
            body=await self._documents.read(claims.organization, content.digest), headers=headers
        )

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Answer a blob or a range of it (distribution-spec, "Pulling blobs"; RFC 9110, section 14)."""
        claims, image = await self._session(request)
        content = await self._within(
            request, claims, self._resolver.blob(image, request.match_info["reference"])
        )
        headers = _headers(content, "application/octet-stream") | {hdrs.ACCEPT_RANGES: "bytes"}
        if _has_it(request, content) or request.method == hdrs.METH_HEAD:
            await self._begin(request, claims)
            if _has_it(request, content):
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
            return _head(headers, content.size_bytes)
        try:
            part = parse_range(_range_header(request, content), content.size_bytes)
        except BlobRangeError as error:
            return oci_response(error, {hdrs.CONTENT_RANGE: f"bytes */{content.size_bytes}"})
        length = part.length if part else content.size_bytes
        async with (
            self._turns.turn(request, claims.node_id),
            await self._blobs.open(claims.organization, content.digest) as reader,
        ):
            delivery = await self._begin(request, claims, content, length)
            return await self._streamer.send(request, reader, delivery, part, headers)

    async def tags(self, request: web.Request) -> web.StreamResponse:
        """List tags (distribution-spec, "Listing tags")."""
        claims, _ = await self._session(request)
        await self._begin(request, claims)
        name = request.match_info["name"]
        after = request.query.get("last")
        tags = [tag for tag in await self._catalog.tags(name) if after is None or tag > after]
        limit = _tag_limit(request.query.get("n"))
        page, headers = tags[:limit], {}
        if page and len(tags) > len(page):
            headers["Link"] = f'</v2/{name}/tags/list?n={limit}&last={page[-1]}>; rel="next"'
        return web.json_response({"name": name, "tags": page}, headers=headers)

    async def _session(self, request: web.Request) -> tuple[SessionClaims, StoredImage]:
        claims = request[CLAIMS]
        name = request.match_info["name"]
        image = None
        if claims.repository == name and claims.image_digest is not None:
            image = await self._resolver.image(name, claims.image_digest)
        if image is None:
            await self._refuse(request, claims)
        return claims, image

    async def _within(
        self, request: web.Request, claims: SessionClaims, content: ImageContent | None
    ) -> ImageContent:
        if content is None:
            await self._refuse(request, claims)
        return content

    async def _refuse(self, request: web.Request, claims: SessionClaims) -> NoReturn:
        await self._verifier.refuse(claims, Cause.OUTSIDE_SCOPE, source=_source(request))

    async def _begin(
        self,
        request: web.Request,
        claims: SessionClaims,
        content: ImageContent | None = None,
        length_bytes: int = 0,
    ) -> Delivery:
        try:
            return await self._verifier.begin(
                claims,
                repository=request.match_info["name"],
                digest=str(content.digest) if content else None,
                length_bytes=length_bytes,
                blob=content is not None,
                source=_source(request),
            )
        except RefusedError as refusal:
            if refusal.cause is Cause.OVER_BUDGET:  # a 401 would make clients exchange again and again
                raise OutsideScopeError(refusal.cause) from None
            raise

    def _authenticated(self) -> Middleware:
        @web.middleware
        async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
            scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
            if scheme.lower() != "bearer":
                raise RefusedError(Cause.MALFORMED)  # the first request of every pull: not worth an event
            request[CLAIMS] = await self._verifier.admit(bearer.strip(), source=_source(request))
            return await handler(request)

        return authenticate

    def _challenge(self, request: web.Request, _error: Exception) -> str:
        """Write `WWW-Authenticate` (RFC 6750, section 3; distribution's token scheme)."""
        parts = [f'realm="{self._origin.url(request)}/token"', f'service="{self._origin.service}"']
        if repository := _REPOSITORY.match(request.path):
            parts.append(f'scope="repository:{repository[1]}:pull"')
        if hdrs.AUTHORIZATION in request.headers:
            parts.append('error="invalid_token"')
        return "Bearer " + ",".join(parts)


@web.middleware
async def _reads_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method not in _READS:
        raise web.HTTPMethodNotAllowed(request.method, _READS)
    return await handler(request)


async def _version(_request: web.Request) -> web.Response:
    return web.json_response({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})


def _headers(content: ImageContent, media_type: str) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: media_type,
        hdrs.ETAG: f'"{content.digest}"',
        hdrs.CACHE_CONTROL: "private, max-age=0",
        "Docker-Content-Digest": str(content.digest),
    }


def _head(headers: dict[str, str], size_bytes: int) -> web.StreamResponse:
    return web.Response(headers=headers | {hdrs.CONTENT_LENGTH: str(size_bytes)})


def _has_it(request: web.Request, content: ImageContent) -> bool:
    """Tell whether the client holds this very content (RFC 9110, section 13.1.2)."""
    known = request.if_none_match or ()
    return any(tag.value in {"*", str(content.digest)} for tag in known)


def _range_header(request: web.Request, content: ImageContent) -> str | None:
    """Return the range asked for, unless it was asked of other content (RFC 9110, section 13.1.5)."""
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition != f'"{content.digest}"':
        return None
    return request.headers.get(hdrs.RANGE)


def _tag_limit(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit():
        return _MAX_TAGS
    return min(int(text[:9]), _MAX_TAGS)


def _source(request: web.Request) -> str:
    return request.remote or "unknown"
