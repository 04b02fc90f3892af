"""What the public API's handlers read from requests and write into answers."""

import re
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import hdrs, web

from registry.api.http.bodies import read_text
from registry.api.http.problems import NO_HEADERS
from registry.api.operations import JSON
from registry.api.public.shapes import NAME_PATTERN, Shape
from registry.errors import NotFoundError
from registry.model.groups import GroupKey

MAX_BODY_BYTES = 1 << 20

_NAME = re.compile(NAME_PATTERN, re.ASCII)


def group_key(request: web.Request) -> GroupKey:
    """Read a group's name from the address. Raises NotFoundError."""
    return GroupKey(*names(request, "organization_name", "project_name", "container_group_name"))


def names(request: web.Request, *parameters: str) -> list[str]:
    """Read names from the address. Raises NotFoundError: one that cannot be a name."""
    found = [request.match_info[parameter] for parameter in parameters]
    for parameter, name in zip(parameters, found, strict=True):
        if not _NAME.fullmatch(name):
            raise NotFoundError(
                f"The {parameter} in the address cannot be one: names are 2 to 63 lower-case letters, digits "
                "and hyphens, a letter first and no hyphen last."
            )
    return found


async def json_body(request: web.Request, *accepted: str) -> str:
    """Read a JSON body of at most `MAX_BODY_BYTES`; the caller was authenticated before."""
    return await read_text(request, accepted or (JSON,), limit_bytes=MAX_BODY_BYTES)


def json_response(
    document: Shape, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] = NO_HEADERS
) -> web.Response:
    """Answer a document."""
    return web.Response(
        text=document.model_dump_json(by_alias=True),
        status=status,
        headers={hdrs.CACHE_CONTROL: "no-store", **headers},
        content_type=JSON,
    )
