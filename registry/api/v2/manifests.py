"""Manifests and indexes, by tag or digest (distribution-spec, "Pulling manifests")."""

import asyncio
import re
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from registry.api.http.conditions import has_it, head, headers_of
from registry.api.v2.damaged import DamageWatch
from registry.api.v2.gate import Admitted, Gate, Route
from registry.errors import EncryptedSessionError, ManifestNotFoundError
from registry.model.images import ContentKind, ImageContent
from registry.oci.documents import Index, parse_document
from registry.oci.encrypted_manifest import PLAINTEXT_DIGEST
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
        image = admitted.image
        content = acceptable(image.visible, named, reference, request.headers.getall(hdrs.ACCEPT, ()))
        if content is None:
            raise ManifestNotFoundError(f"The type {named.media_type} is not in Accept.")
        headers = headers_of(content, content.media_type) | {hdrs.VARY: hdrs.ACCEPT}
        if image.encrypted:
            _refuse_docker(request)
            headers[hdrs.CACHE_CONTROL] = "no-store"
            if content.plaintext is not None:
                headers[PLAINTEXT_DIGEST] = str(content.plaintext)
        if has_it(request, content):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return head(headers, content.size_bytes)
        body = await self._read(admitted, content)
        if content.digest in image.documents and content.kind is ContentKind.MANIFEST:
            await self._gate.record_keyed(request, admitted)
        return web.Response(body=body, headers=headers)

    async def _read(self, admitted: Admitted, content: ImageContent) -> bytes:
        """Return a document. An encrypted one needs the stored one too, which a deletion takes away."""
        organization = admitted.claims.organization
        async with self._watch.reading(organization, content.stored_digest):
            stored = await self._documents.read(organization, content.stored_digest)
        return admitted.image.documents.get(content.digest, stored)

    async def _find(self, request: web.Request, admitted: Admitted, reference: str) -> ImageContent:
        image = admitted.image
        named = await self._resolver.document(request.match_info["name"], image, reference)
        if named is None and _SUBJECT_TAG.match(reference):
            attached = (await self._attached.of(admitted.claims.organization, image.stored)).tagged(reference)
            named = image.visible.content(attached) if attached else None
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
        for index in (each for each in image.stored.contents if each.kind is ContentKind.INDEX):
            data = await self._documents.read(admitted.claims.organization, index.digest)
            parsed = await asyncio.to_thread(parse_document, data)
            entries = parsed.manifests if isinstance(parsed, Index) else ()
            entry = next((entry for entry in entries if entry.digest == digest), None)
            if entry is not None:
                raise ManifestNotFoundError(
                    f"This session has no manifest for {entry.platform or 'an unnamed platform'}, only for "
                    f"{image.stored.platform.replace(',', ', ')}. To import other platforms, set them with "
                    "`crisper group platforms`, and import the image again."
                )


def _refuse_docker(request: web.Request) -> None:
    """Raise EncryptedSessionError for a Docker daemon that unpacks layers itself.

    It would report an invalid tar archive. With containerd's store it names containerd's client, too.
    """
    agent = request.headers.get(hdrs.USER_AGENT, "")
    if agent.startswith("docker/") and "containerd-client/" not in agent:
        raise EncryptedSessionError(
            "The layers of this pull are encrypted for the node, and Docker cannot decrypt them. Pull with "
            "containerd, Podman or skopeo, through `crisper node proxy`, or with a token that was minted "
            "with the encryption `none`."
        )
