"""Lists of tags and of referrers (distribution-spec, "Listing tags" and "Listing Referrers")."""

from typing import Final

from aiohttp import web

from registry.api.v2.gate import Admitted, Route
from registry.errors import InvalidInputError
from registry.model.groups import GroupCatalog
from registry.oci.mediatypes import OCI_INDEX
from registry.pull.attached import AttachmentReader
from registry.pull.resolve import ImageResolver
from storage.digest import Digest

MAX_TAGS: Final = 1000


class Listings:
    """Handlers of lists."""

    def __init__(self, catalog: GroupCatalog, resolver: ImageResolver, attached: AttachmentReader) -> None:
        self._catalog = catalog
        self._resolver = resolver
        self._attached = attached

    def routes(self) -> list[Route]:
        """Return the routes for the gate."""
        return [
            Route("/{name:.+}/tags/list", self.tags),
            Route("/{name:.+}/referrers/{reference}", self.referrers),
        ]

    async def tags(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """List the tags that name the session's image."""
        name = request.match_info["name"]
        after, limit = request.query.get("last"), _tag_limit(request.query.get("n"))
        tags: list[str] = []
        for tag in await self._catalog.tags(name):
            if len(tags) > limit:  # one more than the page: there is a next one
                break
            if (after is None or tag > after) and await self._resolver.document(name, admitted.image, tag):
                tags.append(tag)
        page, headers = tags[:limit], {}
        if page and len(tags) > len(page):
            headers["Link"] = f'</v2/{name}/tags/list?n={limit}&last={page[-1]}>; rel="next"'
        return web.json_response({"name": name, "tags": page}, headers=headers)

    async def referrers(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """List the artifacts that are attached to a digest."""
        subject = Digest.parse(request.match_info["reference"])
        wanted = request.query.get("artifactType") or None
        attached = await self._attached.of(admitted.claims.organization, admitted.image.stored)
        body = attached.index(subject, wanted)
        filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        return web.Response(body=body, content_type=OCI_INDEX, headers=filtered)


def _tag_limit(text: str | None) -> int:
    if text is None:
        return MAX_TAGS
    if not text.isascii() or not text.isdigit():
        raise InvalidInputError("The parameter n must be a whole number, 0 or more.")
    return min(int(text[:9]), MAX_TAGS)
