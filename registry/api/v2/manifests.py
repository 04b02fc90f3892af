"""Manifests and indexes, by tag or digest (distribution-spec, "Pulling manifests")."""

import asyncio
import re
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from registry.api.http.conditions import has_it, head, headers_of
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.gate import Admitted, Gate, Route
from registry.errors import ManifestNotFoundError
from registry.model.images import ContentKind, ImageContent
from registry.oci.documents import Index, parse_document
from registry.oci.reference import is_tag
from registry.pull.attached import AttachmentReader
from registry.pull.documents import Documents
from registry.pull.resolve import ImageResolver, acceptable
from storage.digest import Digest

_SUBJECT_TAG: Final = re.compile(r"sha(?:256|512)-[0-9a-f]{64}")


class Manifests:
    """Handlers of manifests."""

    def __init__(
        self,
        gate: Gate,
        resolver: ImageResolver,
        documents: Documents,
        attached: AttachmentReader,
        watch: DamageWatch,
    ) -> None:
        self._gate = gate
        self._resolver = resolver
        self._documents = documents
        self._attached = attached
        self._watch = watch

    def routes(self) -> list[Route]:
        """Return the routes for the gate."""
        return [Route("/{name:.+}/manifests/{reference}", self.get)]

    async def get(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """Return a manifest or an index."""
        reference = request.match_info["reference"]
        named = await self._find(request, admitted, reference)
        content = acceptable(admitted.image, named, reference, request.headers.getall(hdrs.ACCEPT, ()))
        if content is None:
            raise ManifestNotFoundError(f"The type {named.media_type} is not in Accept.")
        headers = headers_of(content, content.media_type) | {hdrs.VARY: hdrs.ACCEPT}
        if has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return head(headers, content.size_bytes)
        organization = admitted.claims.organization
        async with self._watch.reading(organization, content.digest):
            body = await self._documents.read(organization, content.digest)
        return web.Response(body=body, headers=headers)

    async def _find(self, request: web.Request, admitted: Admitted, reference: str) -> ImageContent:
        image = admitted.image
        named = await self._resolver.document(request.match_info["name"], image, reference)
        if named is None and _SUBJECT_TAG.match(reference):
            attached = (await self._attached.of(admitted.claims.organization, image)).tagged(reference)
            named = image.content(attached) if attached else None
        if named is None:
            await self._refuse_unimported(admitted, reference)
            # Clients request the tags of signatures by default, so these get no event.
            if not (is_tag(reference) and _SUBJECT_TAG.match(reference)):
                await self._gate.record_outside(request, admitted)
            raise ManifestNotFoundError("The manifest does not exist in this session's image.")
        return named

    async def _refuse_unimported(self, admitted: Admitted, reference: str) -> None:
        """Raise ManifestNotFoundError if the reference names a manifest that was not imported."""
        image = admitted.image
        if is_tag(reference):
            return
        digest = Digest.parse(reference)
        for index in (content for content in image.contents if content.kind is ContentKind.INDEX):
            data = await self._documents.read(admitted.claims.organization, index.digest)
            parsed = await asyncio.to_thread(parse_document, data)
            entries = parsed.manifests if isinstance(parsed, Index) else ()
            entry = next((entry for entry in entries if entry.digest == digest), None)
            if entry is not None:
                raise ManifestNotFoundError(
                    f"This session has no manifest for {entry.platform or 'an unnamed platform'}, only for "
                    f"{image.platform.replace(',', ', ')}. To import other platforms, set them with "
                    "`crisper group platforms`, and import the image again."
                )
