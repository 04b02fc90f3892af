"""The OCI distribution API, pull only (distribution-spec 1.1, "Pull" and "Content Discovery").

Every request shows a session's bearer, asks the ledger once, and sees its session's image and
nothing else. In the session's own repository what is not of that image does not exist; every other
repository is refused, whether it exists or not (docs/adr/0028-404-inside-403-outside-the-repository.md).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final, NoReturn

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.claims import SessionClaims
from auth.delivery import MeteredDelivery
from auth.errors import Cause, OutsideScopeError, RefusedError
from auth.verifier import Verifier
from registry.api.http.conditions import OCTETS, has_it, head, headers_of, range_header
from registry.api.http.origin import Origin
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, oci_response
from registry.api.http.streaming import BlobStreamer
from registry.api.v2.node_limit import NodeConcurrencyLimit
from registry.errors import InvalidInputError, ManifestNotFoundError, NotFoundError, ReferenceFormatError
from registry.maintenance.damage import DamageReporter
from registry.model.groups import GroupCatalog
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.oci.mediatypes import OCI_INDEX
from registry.oci.reference import is_repository, is_tag
from registry.pull.attached import AttachmentReader
from registry.pull.documents import Documents
from registry.pull.ranges import parse_range
from registry.pull.resolve import ImageResolver, acceptable
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobNotFoundError, BlobRangeError
from storage.read.reader import BlobReader

PREFIX: Final = "/v2"
CLAIMS = web.RequestKey("claims", SessionClaims)

_REPOSITORY = re.compile(
    r"/v2/((?:[a-z0-9][a-z0-9._-]*/)+[a-z0-9][a-z0-9._-]*)/(?:manifests|blobs|tags|referrers)/"
)
_READS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_SUBJECT_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64}")
_METERED = frozenset({ContentKind.CONFIG, ContentKind.LAYER})
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
        damage: Is told of blobs that do not verify.
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
        turns: NodeConcurrencyLimit,
        damage: DamageReporter,
        origin: Origin,
    ) -> None:
        self._verifier = verifier
        self._resolver = resolver
        self._blobs = blobs
        self._attached = AttachmentReader(blobs)
        self._documents = Documents(blobs)
        self._catalog = catalog
        self._streamer = streamer
        self._turns = turns
        self._damage = damage
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
                web.get("/{name:.+}/manifests/{reference}", self.manifest),
                web.get("/{name:.+}/blobs/{reference}", self.blob),
                web.get("/{name:.+}/tags/list", self.tags),
                web.get("/{name:.+}/referrers/{reference}", self.referrers),
            ]
        )
        return app

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """Answer a manifest or index, by tag or digest (distribution-spec, "Pulling manifests")."""
        claims, image = await self._session(request)
        reference = request.match_info["reference"]
        await self._begin(request, claims)
        named = await self._resolver.document(request.match_info["name"], image, reference)
        if named is None and _SUBJECT_TAG.match(reference):
            attached = (await self._attached.of(claims.organization, image)).tagged(reference)
            named = image.content(attached) if attached else None
        if named is None:
            await self._absent(request, claims, reference)
            raise ManifestNotFoundError("The repository has no such manifest for this session.")
        content = acceptable(image, named, reference, request.headers.getall(hdrs.ACCEPT, ()))
        if content is None:
            raise ManifestNotFoundError(f"There is a {named.media_type}, which Accept does not name.")
        headers = headers_of(content, content.media_type) | {hdrs.VARY: hdrs.ACCEPT}
        if has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return head(headers, content.size_bytes)
        async with self._reporting(claims, content):
            body = await self._documents.read(claims.organization, content.digest)
        return web.Response(body=body, headers=headers)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Answer a blob or a range of it (distribution-spec, "Pulling blobs"; RFC 9110, section 14)."""
        claims, image = await self._session(request)
        reference = request.match_info["reference"]
        content = self._resolver.blob(image, reference)
        if content is None:
            await self._begin(request, claims)
            await self._absent(request, claims, reference)
            raise BlobNotFoundError
        headers = headers_of(content, OCTETS) | {hdrs.ACCEPT_RANGES: "bytes"}
        if has_it(request, content) or request.method == hdrs.METH_HEAD:
            await self._begin(request, claims)
            if has_it(request, content):
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
            return head(headers, content.size_bytes)
        try:
            part = parse_range(range_header(request, content), content.size_bytes)
        except BlobRangeError as error:
            await self._begin(request, claims)
            return oci_response(error, {hdrs.CONTENT_RANGE: f"bytes */{content.size_bytes}"})
        length = part.length if part else content.size_bytes
        async with (
            self._turns.turn(request, claims.node_id),
            self._reporting(claims, content),
            await self._open(claims, content) as reader,
        ):
            metered = content if content.kind in _METERED else None
            delivery = await self._begin(request, claims, metered, length)
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

    async def referrers(self, request: web.Request) -> web.StreamResponse:
        """List what was attached to a digest (distribution-spec, "Listing Referrers"); often nothing."""
        claims, image = await self._session(request)
        subject = Digest.parse(request.match_info["reference"])
        await self._begin(request, claims)
        wanted = request.query.get("artifactType") or None
        body = (await self._attached.of(claims.organization, image)).index(subject, wanted)
        filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        return web.Response(body=body, content_type=OCI_INDEX, headers=filtered)

    async def _session(self, request: web.Request) -> tuple[SessionClaims, StoredImage]:
        claims = request[CLAIMS]
        name = request.match_info["name"]
        if not is_repository(name):
            raise ReferenceFormatError("This cannot be the name of a repository.")
        if claims.repository != name or claims.image_digest is None:
            await self._refuse(request, claims)
        image = await self._resolver.image(name, claims.image_digest)
        if image is None:
            await self._begin(request, claims)
            raise NotFoundError("The repository is gone.")
        return claims, image

    async def _open(self, claims: SessionClaims, content: ImageContent) -> BlobReader:
        return await self._blobs.open(claims.organization, content.digest)

    @asynccontextmanager
    async def _reporting(self, claims: SessionClaims, content: ImageContent) -> AsyncIterator[None]:
        """Tell of a blob that does not verify, whether or not bytes of it have left."""
        try:
            yield
        except BlobDamagedError as error:
            self._blobs.forget(claims.organization, content.digest)
            await asyncio.shield(self._damage.report(claims.organization, content.digest, error))
            raise

    async def _refuse(self, request: web.Request, claims: SessionClaims) -> NoReturn:
        await self._verifier.refuse(claims, Cause.OUTSIDE_SCOPE, source=peer_of(request).source)

    async def _absent(self, request: web.Request, claims: SessionClaims, reference: str) -> None:
        """Record that a session asked for what is not of its image, whether it exists elsewhere or not.

        Tags that this registry never gives are passed over: clients look for signatures unasked.
        """
        if is_tag(reference) and _SUBJECT_TAG.match(reference):
            return
        with suppress(OutsideScopeError):
            await self._refuse(request, claims)

    async def _begin(
        self,
        request: web.Request,
        claims: SessionClaims,
        content: ImageContent | None = None,
        length_bytes: int = 0,
    ) -> MeteredDelivery:
        peer = peer_of(request)
        try:
            return await self._verifier.begin(
                claims,
                repository=request.match_info["name"],
                digest=str(content.digest) if content else None,
                length_bytes=length_bytes,
                blob=content is not None,
                source=peer.source,
                peer=peer.certificate,
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
            peer = peer_of(request)
            request[CLAIMS] = await self._verifier.admit(
                bearer.strip(), source=peer.source, peer=peer.certificate
            )
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


def _tag_limit(text: str | None) -> int:
    if text is None:
        return _MAX_TAGS
    if not text.isascii() or not text.isdigit():
        raise InvalidInputError("n is the number of tags to list: 0 or more")
    return min(int(text[:9]), _MAX_TAGS)
