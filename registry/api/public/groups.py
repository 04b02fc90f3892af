"""The public API's container groups."""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Final, Literal

from aiohttp import hdrs, web
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from registry.api.endpoint import Call, Endpoint, Header, Reply
from registry.api.http.bodies import JSON, MERGE_PATCH
from registry.api.http.problems import NO_HEADERS
from registry.api.public.application import GROUP, GROUPS, READ, WRITE, group_key
from registry.api.public.group import ContainerGroup, ContainerGroupCollection
from registry.api.public.patch import ContainerGroupPatch, ContainerGroupRollback
from registry.api.public.prototype import ContainerGroupPrototype
from registry.api.validation import FROM_DIGITS, Query
from registry.errors import ConflictError, InvalidInputError, PreconditionFailedError
from registry.model.groups import GroupKey
from registry.services.groups import MAX_PAGE, ContainerGroups
from registry.services.views import GroupView

_ACCEPTED: Final = "Accepted. The body is empty."
_ETAG: Final = {"ETag": "Version of the group as its owner set it. Send it as If-Match."}


class PageQuery(Query):
    """Query of a page of a project's groups."""

    page_size: Annotated[
        int,
        Field(ge=1, le=10**18, description=f"Maximum number of groups; a page has at most {MAX_PAGE}."),
        FROM_DIGITS,
    ] = MAX_PAGE
    after: Annotated[
        str | SkipJsonSchema[None],
        Field(description="Cursor from the Link header of the previous page."),
    ] = None


class UpdateQuery(Query):
    """Query of an update."""

    pull: Annotated[
        Literal["always"] | SkipJsonSchema[None],
        Field(description="`always` imports the image again, even if its reference is unchanged."),
    ] = None


class GroupsApi:
    """Operations on container groups."""

    tag: ClassVar[str] = "container groups"

    def __init__(self, groups: ContainerGroups) -> None:
        self._groups = groups

    @Endpoint(
        "GET",
        GROUPS,
        "The project's groups, oldest first.",
        errors=(400, *READ),
        headers={"Link": 'Address of the next page as `rel="next"`, if there is one.'},
    )
    async def list_container_groups(
        self, call: Call[None], query: PageQuery
    ) -> Reply[ContainerGroupCollection]:
        """List container groups."""
        organization, project = call.path("organization_name"), call.path("project_name")
        limit = min(query.page_size, MAX_PAGE)
        page = await self._groups.list(organization, project, after=query.after, limit=limit)
        headers = {}
        if page.next_after:
            more = call.request.rel_url.update_query(after=page.next_after)
            headers["Link"] = f'<{more.raw_path_qs}>; rel="next"'
        return Reply(ContainerGroupCollection.of(page.views), headers)

    @Endpoint(
        "POST",
        GROUPS,
        "The group.",
        status=201,
        errors=WRITE,
        headers={**_ETAG, "Location": "The group's address."},
    )
    async def create_container_group(self, call: Call[ContainerGroupPrototype]) -> Reply[ContainerGroup]:
        """Create a container group.

        The import of its image starts. A repeated request returns the same group.
        """
        prototype = call.body
        key = GroupKey(call.path("organization_name"), call.path("project_name"), prototype.name)
        try:
            view = await self._groups.create(key, prototype.as_new_group(), source=call.source)
        except ConflictError as error:
            # The reference knows no 409 for this call, and the SDK parses the body of a 400.
            raise InvalidInputError(str(error), {"name": ["is taken in this project"]}) from None
        return _reply(view, {hdrs.LOCATION: f"{call.request.rel_url.raw_path}/{prototype.name}"})

    @Endpoint("GET", GROUP, "The group.", errors=READ, headers=_ETAG)
    async def get_container_group(self, call: Call[None]) -> Reply[ContainerGroup]:
        """Get a container group."""
        return _reply(await self._groups.get(group_key(call)))

    @Endpoint(
        "PATCH",
        GROUP,
        "The group.",
        body_types=(MERGE_PATCH, JSON),
        errors=(*WRITE, 409, 412),
        reads=(Header(hdrs.IF_MATCH, "The ETag that the group must still have."),),
        headers=_ETAG,
    )
    async def update_container_group(
        self, call: Call[ContainerGroupPatch], query: UpdateQuery
    ) -> Reply[ContainerGroup]:
        """Update a container group.

        A changed image is imported as the next version. Nodes get the previous version until it is stored.
        """
        view = await self._groups.update(
            group_key(call),
            call.body.as_change(pull=query.pull is not None),
            if_match=_if_match(call.request),
            source=call.source,
        )
        return _reply(view)

    @Endpoint("DELETE", GROUP, _ACCEPTED, status=202, errors=WRITE)
    async def delete_container_group(self, call: Call[None]) -> None:
        """Delete a container group.

        Its import stops, and its pull tokens are revoked immediately.
        """
        await self._groups.delete(group_key(call), source=call.source)

    @Endpoint("POST", f"{GROUP}/start", _ACCEPTED, status=202, errors=(400, *WRITE, 409))
    async def start_container_group(self, call: Call[None]) -> None:
        """Start a container group.

        A pending group starts when its image is stored.
        """
        await self._groups.start(group_key(call), source=call.source)

    @Endpoint("POST", f"{GROUP}/stop", _ACCEPTED, status=202, errors=(*WRITE, 409))
    async def stop_container_group(self, call: Call[None]) -> None:
        """Stop a container group.

        Its nodes are released, and their pull tokens are revoked.
        """
        await self._groups.stop(group_key(call), source=call.source)

    @Endpoint("POST", f"{GROUP}/rollback", "The group.", errors=(400, *WRITE, 409), headers=_ETAG)
    async def roll_back_container_group(self, call: Call[ContainerGroupRollback]) -> Reply[ContainerGroup]:
        """Return a container group to an earlier version.

        The next version gets the image and configuration of the earlier one, which must still be stored.
        There is no import.
        """
        return _reply(await self._groups.roll_back(group_key(call), call.body.version, source=call.source))


def _if_match(request: web.Request) -> Collection[str] | None:
    """Parse `If-Match` (RFC 9110, section 13.1.1). None matches any group.

    Raises:
        PreconditionFailedError: It does not start with an entity tag of a group.
    """
    # Only the raw header distinguishes * from the entity tag "*".
    if request.headers.getall(hdrs.IF_MATCH, ["*"]) == ["*"]:
        return None
    tags = {f'"{tag.value}"' for tag in request.if_match or () if not tag.is_weak}
    if not tags:
        raise PreconditionFailedError("Send If-Match with an ETag from a response, including its quotes.")
    return tags


def _reply(view: GroupView, headers: Mapping[str, str] = NO_HEADERS) -> Reply[ContainerGroup]:
    return Reply(ContainerGroup.of(view), {hdrs.ETAG: view.etag, **headers})
