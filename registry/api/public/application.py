"""The public API's application: authentication and routes (docs/public-api.md)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPMethod
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from auth.actor import acting_as
from auth.errors import OutsideScopeError
from registry.api.endpoint import Api, Call, Part, Schema, add_operations, operation_of
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, problem_response
from registry.api.openapi import API_KEY
from registry.api.public.authentication import HEADER, Authenticate
from registry.api.public.shapes import NAME_PATTERN
from registry.api.public.turns import OrganizationTurns
from registry.errors import NotFoundError
from registry.model.groups import GroupKey

PREFIX: Final = "/api/public"
ORGANIZATION: Final = "/organizations/{organization_name}"
GROUPS: Final = ORGANIZATION + "/projects/{project_name}/containers"
GROUP: Final = GROUPS + "/{container_group_name}"
READ: Final = (404,)
WRITE: Final = (403, 404)

_MAX_BODY_BYTES: Final = 1 << 20
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)
_NAME_SCHEMA: Final[Schema] = {"type": "string", "minLength": 2, "maxLength": 63, "pattern": NAME_PATTERN}
_NAMES: Final[Mapping[str, Schema]] = {
    "organization_name": {**_NAME_SCHEMA, "examples": ["acme-corp"]},
    "project_name": {**_NAME_SCHEMA, "examples": ["dev-env"]},
    "container_group_name": {**_NAME_SCHEMA, "examples": ["mandelbrot"]},
}
_API: Final = Api(
    PREFIX,
    API_KEY,
    {
        **_NAMES,
        "container_group_instance_id": {"type": "string", "format": "uuid"},
        "webhook_id": {"type": "string", "format": "uuid"},
    },
    errors=(429,),
    body_limit_bytes=_MAX_BODY_BYTES,
)


def group_key(call: Call[Any]) -> GroupKey:
    """Return the group key from the path."""
    return GroupKey(*(call.path(parameter) for parameter in _NAMES))


def guarded_app(authenticate: Authenticate, parts: Sequence[Part]) -> web.Application:
    """Return the application to mount at `PREFIX`. All its errors are rendered as problems."""
    problems = errors_as(problem_response, challenge=lambda *_: f'{HEADER} realm="crisper"')
    app = web.Application(middlewares=[problems, _authenticated(authenticate)])
    add_operations(app, _API, parts)
    return app


def _authenticated(authenticate: Authenticate) -> Middleware:
    """Refuse callers whose key does not reach the organization in the address, and names that cannot be.

    Another organization is answered as the reference has it for the method, 404 to a read and 403 to a
    write, and alike whether it exists or not. A customer's requests take turns, except endless ones.
    """
    turns = OrganizationTurns()

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        changes = request.method not in {HTTPMethod.GET, HTTPMethod.HEAD}
        source = peer_of(request).source
        caller = await authenticate(request.headers.get(HEADER), source=source, changes=changes)
        organization = request.match_info.get("organization_name")
        if organization is not None:
            try:
                caller.require(organization)
            except OutsideScopeError:
                if request.method != HTTPMethod.GET:
                    raise
                raise NotFoundError("The organization does not exist, or the key has no access.") from None
        _require_names(request)
        operation = operation_of(request)
        if operation is not None:
            caller.require_scope(operation.endpoint.required_scope)
        with acting_as(caller.actor):
            if caller.organization is None or operation is None or operation.streams:
                return await handler(request)
            async with turns.of(caller.organization):
                return await handler(request)

    return admit


def _require_names(request: web.Request) -> None:
    for parameter in _NAMES.keys() & request.match_info.keys():
        if not _NAME.fullmatch(request.match_info[parameter]):
            raise NotFoundError(
                f"The {parameter} in the address is not valid: names are 2 to 63 lower-case letters, digits "
                "and hyphens, start with a letter, and do not end with a hyphen."
            )
