"""The public API's addresses (docs/public-api.md)."""

import re
from collections.abc import Mapping
from http import HTTPMethod, HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from auth.errors import OutsideScopeError
from registry.api.bodies import in_time
from registry.api.peers import peer_of
from registry.api.problems import NO_HEADERS, errors_as, problem_response
from registry.api.public.authentication import HEADER, Authenticate
from registry.api.public.progress import ImportProgress
from registry.api.public.requests import ContainerGroupPrototype
from registry.api.public.responses import ContainerGroup, ContainerGroupCollection
from registry.api.public.shapes import NAME_PATTERN, Shape
from registry.errors import ConflictError, InvalidInputError, NotFoundError
from registry.groups import ContainerGroups
from registry.ports import GroupKey

PREFIX = "/api/public"
MAX_BODY_BYTES = 1 << 20

_GROUPS = "/organizations/{organization_name}/projects/{project_name}/containers"
_GROUP = _GROUPS + "/{container_group_name}"
_NAME = re.compile(NAME_PATTERN, re.ASCII)


def public_app(groups: ContainerGroups, authenticate: Authenticate) -> web.Application:
    """Make the application to mount at `PREFIX`; whatever goes wrong in it is answered as a problem."""
    progress = ImportProgress(groups)
    api = _Api(groups, progress)
    app = web.Application(
        middlewares=[
            errors_as(problem_response, challenge=lambda *_: f'{HEADER} realm="crisper"'),
            _authenticated(authenticate),
        ]
    )
    app.add_routes(
        [
            web.get(_GROUPS, api.list, allow_head=False),
            web.post(_GROUPS, api.create),
            web.get(_GROUP, api.get, allow_head=False),
            web.delete(_GROUP, api.delete),
            web.get(_GROUP + "/progress", api.progress, allow_head=False),
        ]
    )
    app.on_shutdown.append(progress.stop)
    return app


def _authenticated(authenticate: Authenticate) -> Middleware:
    """Let nobody through whose key does not reach the organization in the address.

    Another organization is answered as the reference has it for the method, 404 to a read and 403 to a
    write, and alike whether it exists or not.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = await authenticate(request.headers.get(HEADER))
        organization = request.match_info.get("organization_name")
        if organization is not None:
            try:
                caller.require(organization)
            except OutsideScopeError:
                if request.method != HTTPMethod.GET:
                    raise
                raise NotFoundError("There is no such organization, or this key does not reach it.") from None
        return await handler(request)

    return admit


class _Api:
    """Handlers: HTTP in, HTTP out; the use-cases do the work."""

    def __init__(self, groups: ContainerGroups, progress: ImportProgress) -> None:
        self._groups = groups
        self._progress = progress

    async def list(self, request: web.Request) -> web.Response:
        organization, project = _names(request, "organization_name", "project_name")
        return _json(ContainerGroupCollection.of(await self._groups.list(organization, project)))

    async def create(self, request: web.Request) -> web.Response:
        organization, project = _names(request, "organization_name", "project_name")
        prototype = ContainerGroupPrototype.read(await in_time(_json_body(request)))
        key = GroupKey(organization, project, prototype.name)
        try:
            view = await self._groups.create(key, prototype.as_new_group(), source=peer_of(request).source)
        except ConflictError as error:
            # The reference knows no 409 for this call, and the SDK parses the body of a 400.
            raise InvalidInputError(str(error), {"name": ["is taken in this project"]}) from None
        location = f"{request.path}/{prototype.name}"
        return _json(ContainerGroup.of(view), HTTPStatus.CREATED, {"Location": location})

    async def get(self, request: web.Request) -> web.Response:
        return _json(ContainerGroup.of(await self._groups.get(_key(request))))

    async def progress(self, request: web.Request) -> web.StreamResponse:
        return await self._progress.answer(request, _key(request))

    async def delete(self, request: web.Request) -> web.Response:
        await self._groups.delete(_key(request), source=peer_of(request).source)
        return web.Response(status=HTTPStatus.ACCEPTED)


def _key(request: web.Request) -> GroupKey:
    return GroupKey(*_names(request, "organization_name", "project_name", "container_group_name"))


def _names(request: web.Request, *parameters: str) -> list[str]:
    """Read names from the address. Raises NotFoundError: one that cannot be a name."""
    names = [request.match_info[parameter] for parameter in parameters]
    for parameter, name in zip(parameters, names, strict=True):
        if not _NAME.fullmatch(name):
            raise NotFoundError(
                f"The {parameter} in the address cannot be one: names are 2 to 63 lower-case letters, digits "
                "and hyphens, a letter first and no hyphen last."
            )
    return names


async def _json_body(request: web.Request) -> bytes:
    """Read a JSON body of at most `MAX_BODY_BYTES`, counted after any Content-Encoding."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send application/json.")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(
                max_size=MAX_BODY_BYTES, actual_size=len(body), text=f"Send at most {MAX_BODY_BYTES} bytes."
            )
    return bytes(body)


def _json(
    document: Shape, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] = NO_HEADERS
) -> web.Response:
    return web.Response(
        text=document.model_dump_json(by_alias=True),
        status=status,
        headers={"Cache-Control": "no-store", **headers},
        content_type="application/json",
    )
