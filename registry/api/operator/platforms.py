"""The operator API's settings of the platforms that imports store."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.instances import group_of
from registry.api.operator.shapes import GROUP, Body, Document, PlatformName
from registry.catalog.platforms import SqlPlatformSettings
from registry.model.groups import GroupKey
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

    platforms: Sequence[str] | None
    effective: Sequence[str]


class PlatformsApi:
    """Operations on the platforms of imports."""

    tag: ClassVar[str] = "platforms"

    def __init__(self, settings: SqlPlatformSettings, default: Sequence[str]) -> None:
        self._settings = settings
        self._default = list(default)

    @Endpoint("GET", _ORGANIZATION, "The platforms.", errors=(404,))
    async def get_organization_platforms(self, call: Call[None]) -> Platforms:
        """Get the platforms of an organization's imports."""
        return await self._of_organization(call.path("organization_name"))

    @Endpoint("PUT", _ORGANIZATION, "The platforms.", errors=(404,))
    async def set_organization_platforms(self, call: Call[NewPlatforms]) -> Platforms:
        """Set the platforms of an organization's imports."""
        name = call.path("organization_name")
        await self._settings.set_organization(name, call.body.platforms, source=call.source)
        return await self._of_organization(name)

    @Endpoint("GET", _GROUP, "The platforms.", errors=(404,))
    async def get_group_platforms(self, call: Call[None]) -> Platforms:
        """Get the platforms of a group's imports."""
        return await self._of_group(group_of(call))

    @Endpoint("PUT", _GROUP, "The platforms.", errors=(404,))
    async def set_group_platforms(self, call: Call[NewPlatforms]) -> Platforms:
        """Set the platforms of a group's imports."""
        key = group_of(call)
        await self._settings.set_group(key, call.body.platforms, source=call.source)
        return await self._of_group(key)

    async def _of_organization(self, name: str) -> Platforms:
        own = await self._settings.of_organization(name)
        return Platforms(platforms=own, effective=own or self._default)

    async def _of_group(self, key: GroupKey) -> Platforms:
        own = await self._settings.of_group(key)
        wider = await self._settings.of_organization(key.organization)
        return Platforms(platforms=own, effective=own or wider or self._default)
