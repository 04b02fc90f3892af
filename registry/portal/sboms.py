"""Download of the SBOM of a group's image."""

from aiohttp import web

from registry.errors import NotFoundError
from registry.model.access import Role
from registry.portal.group import GROUP, key_of
from registry.portal.origin import MAX_PLATFORMS
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.trust.facts import SbomFormat


class SbomViews(Views):
    """View of the download."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        path = GROUP + "/images/{digest}/{format}"
        return [web.get(path, self._guard.show(self.download, needs=Role.VIEWER))]

    async def download(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Download the SBOM of one of the group's stored versions. Raises NotFoundError."""
        key, digest = key_of(request, visitor), request.match_info["digest"]
        group = (await self._services.groups.get(key)).group
        stored = await self._services.overview.versions(group.id)
        known = {
            row["manifest_digest"]
            for each in {version.digest for version in stored}
            for row in await self._services.images.list(key.organization, MAX_PLATFORMS, each)
        }
        if digest not in known or request.match_info["format"] not in list(SbomFormat):
            raise NotFoundError("The group has no such image or SBOM. Reload the group's page.")
        format_ = SbomFormat(request.match_info["format"])
        found = await self._services.sboms.read(key.organization, digest, format_)
        return web.Response(body=found.data, content_type=found.media_type, headers=found.headers)
