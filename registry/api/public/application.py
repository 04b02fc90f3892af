"""The public API's addresses (docs/public-api.md)."""

import re
from collections.abc import Collection, Mapping
from http import HTTPMethod, HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.errors import OutsideScopeError
from registry.api.http.peers import peer_of
from registry.api.http.problems import NO_HEADERS, errors_as, problem_response
from registry.api.operations import JSON, MERGE_PATCH
from registry.api.public.authentication import HEADER, Authenticate
from registry.api.public.exchange import group_key, json_body, json_response, names
from registry.api.public.instances import InstancesApi
from registry.api.public.progress import ImportProgress
from registry.api.public.requests import ContainerGroupPrototype
from registry.api.public.responses import ContainerGroup, ContainerGroupCollection
from registry.api.public.updates import ContainerGroupPatch, ContainerGroupRollback
from registry.errors import ConflictError, InvalidInputError, NotFoundError, PreconditionFailedError
from registry.model.groups import GroupKey
from registry.services.groups import MAX_PAGE, ContainerGroups
from registry.services.instances import Instances
from registry.services.views import GroupView

PREFIX = "/api/public"
ALWAYS_PULL = "always"

_GROUPS = "/organizations/{organization_name}/projects/{project_name}/containers"
_GROUP = _GROUPS + "/{container_group_name}"
_ETAG = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e]*")\s*')


def public_app(groups: ContainerGroups, instances: Instances, authenticate: Authenticate) -> web.Application:
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
            web.patch(_GROUP, api.update),
            web.delete(_GROUP, api.delete),
            web.get(_GROUP + "/progress", api.progress, allow_head=False),
            web.post(_GROUP + "/start", api.start),
            web.post(_GROUP + "/stop", api.stop),
            web.post(_GROUP + "/rollback", api.roll_back),
            *InstancesApi(instances).routes(_GROUP + "/instances"),
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
        organization, project = names(request, "organization_name", "project_name")
        after = request.query.get("after")
        page = await self._groups.list(organization, project, after=after, limit=_page_size(request))
        more = request.rel_url.update_query(after=page.next_after) if page.next_after else None
        headers = {"Link": f'<{more.raw_path_qs}>; rel="next"'} if more else {}
        return json_response(ContainerGroupCollection.of(page.views), headers=headers)

    async def create(self, request: web.Request) -> web.Response:
        organization, project = names(request, "organization_name", "project_name")
        prototype = ContainerGroupPrototype.read(await json_body(request))
        key = GroupKey(organization, project, prototype.name)
        try:
            view = await self._groups.create(key, prototype.as_new_group(), source=peer_of(request).source)
        except ConflictError as error:
            # The reference knows no 409 for this call, and the SDK parses the body of a 400.
            raise InvalidInputError(str(error), {"name": ["is taken in this project"]}) from None
        location = f"{request.rel_url.raw_path}/{prototype.name}"
        return _group_response(view, HTTPStatus.CREATED, {hdrs.LOCATION: location})

    async def get(self, request: web.Request) -> web.Response:
        return _group_response(await self._groups.get(group_key(request)))

    async def update(self, request: web.Request) -> web.Response:
        key = group_key(request)
        pull = request.query.get("pull")
        if pull not in {None, ALWAYS_PULL}:
            raise InvalidInputError(
                "The query does not validate.", {"pull": [f"send {ALWAYS_PULL}, or nothing"]}
            )
        patch = ContainerGroupPatch.read(await json_body(request, JSON, MERGE_PATCH))
        view = await self._groups.update(
            key,
            patch.as_change(pull=pull is not None),
            if_match=_if_match(request),
            source=peer_of(request).source,
        )
        return _group_response(view)

    async def roll_back(self, request: web.Request) -> web.Response:
        key = group_key(request)
        wanted = ContainerGroupRollback.read(await json_body(request))
        return _group_response(
            await self._groups.roll_back(key, wanted.version, source=peer_of(request).source)
        )

    async def start(self, request: web.Request) -> web.Response:
        await self._groups.start(group_key(request), source=peer_of(request).source)
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def stop(self, request: web.Request) -> web.Response:
        await self._groups.stop(group_key(request), source=peer_of(request).source)
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        return await self._progress.answer(request, group_key(request))

    async def delete(self, request: web.Request) -> web.Response:
        await self._groups.delete(group_key(request), source=peer_of(request).source)
        return web.Response(status=HTTPStatus.ACCEPTED)


def _page_size(request: web.Request) -> int:
    text = request.query.get("page_size", str(MAX_PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_PAGE:
        reason = f"send a whole number from 1 to {MAX_PAGE}"
        raise InvalidInputError("The query does not validate.", {"page_size": [reason]})
    return int(text)


def _if_match(request: web.Request) -> Collection[str] | None:
    """Read `If-Match` (RFC 9110, section 13.1.1); None takes any group.

    Raises:
        PreconditionFailedError: It is no list of entity tags, and so names none that a group has.
    """
    lines = request.headers.getall(hdrs.IF_MATCH, [])
    text = ",".join(lines).strip()
    if not lines or text == "*":
        return None
    tags = [_ETAG.fullmatch(part) for part in text.split(",")]
    if not all(tags):
        raise PreconditionFailedError("If-Match has to hold an ETag as it was answered, with its quotes.")
    return {tag[1] for tag in tags if tag}


def _group_response(
    view: GroupView, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] = NO_HEADERS
) -> web.Response:
    return json_response(ContainerGroup.of(view), status, {hdrs.ETAG: view.etag, **headers})
