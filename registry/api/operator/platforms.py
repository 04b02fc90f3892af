"""The operator API's settings of the platforms that imports store."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.instances import group_of
from registry.api.operator.shapes import GROUP, Body, Document, PlatformName
from registry.catalog.platforms import SqlPlatformSettings
from registry.oci.platform import MAX_PLATFORMS

_ORGANIZATION = "/organizations/{organization_name}/platforms"
_GROUP = f"{GROUP}/platforms"


class NewPlatforms(Body):
    """Platforms of the next imports.

    Attributes:
        platforms: As `linux/arm64`; null removes the setting.
    """

    platforms: Annotated[tuple[PlatformName, ...], Field(min_length=1, max_length=MAX_PLATFORMS)] | None


class Platforms(Document):
    """Platforms that imports store if the image has them.

    Attributes:
        platforms: The setting itself; null if there is none.
        effective: The platforms that the next import uses.
    """

    platforms: list[str] | None
    effective: list[str]


class PlatformsApi:
    """Operations on the platforms of imports."""

    tag: ClassVar[str] = "platforms"

    def __init__(self, settings: SqlPlatformSettings, default: Sequence[str]) -> None:
        self._settings = settings
        self._default = list(default)

    @Endpoint("GET", _ORGANIZATION, "The platforms.", errors=(404,))
    async def get_organization_platforms(self, call: Call[Any]) -> Platforms:
        """Get the platforms of an organization's imports."""
        own = await self._settings.of_organization(call.path("organization_name"))
        return Platforms(platforms=_listed(own), effective=list(own or self._default))

    @Endpoint("PUT", _ORGANIZATION, "The platforms.", errors=(404,))
    async def set_organization_platforms(self, call: Call[NewPlatforms]) -> Platforms:
        """Set the platforms of an organization's imports."""
        name, wanted = call.path("organization_name"), call.body.platforms
        await self._settings.set_organization(name, wanted, source=call.source)
        return await self.get_organization_platforms(call)

    @Endpoint("GET", _GROUP, "The platforms.", errors=(404,))
    async def get_group_platforms(self, call: Call[Any]) -> Platforms:
        """Get the platforms of a group's imports."""
        key = group_of(call)
        own = await self._settings.of_group(key)
        wider = own or await self._settings.of_organization(key.organization)
        return Platforms(platforms=_listed(own), effective=list(wider or self._default))

    @Endpoint("PUT", _GROUP, "The platforms.", errors=(404,))
    async def set_group_platforms(self, call: Call[NewPlatforms]) -> Platforms:
        """Set the platforms of a group's imports."""
        await self._settings.set_group(group_of(call), call.body.platforms, source=call.source)
        return await self.get_group_platforms(call)


def _listed(own: Sequence[str] | None) -> list[str] | None:
    return None if own is None else list(own)
