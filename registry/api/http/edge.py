"""Rules for the text of all requests and for the headers of all responses."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web, web_response
from aiohttp.typedefs import Handler, Middleware

from registry.api.http.problems import renderer_of
from registry.errors import InvalidInputError

HSTS: Final = "max-age=31536000"
SERVER: Final = "Crisper"

# Lone surrogates stand for bytes that are not UTF-8. No database stores them, and PostgreSQL stores no NUL.
_FORBIDDEN_IN_TEXT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_FORBIDDEN_IN_PATHS: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def require_text(text: str, where: str) -> None:
    """Refuse NUL, other control characters except tabs and line breaks, and text that is not UTF-8.

    Args:
        where: Part of the request that contains the text, for the error.

    Raises:
        InvalidInputError: The text contains such a character.
    """
    if _FORBIDDEN_IN_TEXT.search(text):
        raise _control_character(where)


def plain_addresses() -> Middleware:
    """Return the middleware that refuses such characters in paths and queries with 400.

    `registry.api.http.bodies` and `registry.api.validation` do so for forms and JSON.
    """

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if _FORBIDDEN_IN_PATHS.search(request.path):
                raise _control_character("path")
            require_text(request.query_string, "query")
        except InvalidInputError as error:
            return renderer_of(request)(error, {})
        return await handler(request)

    return refuse


def transport_security(
    is_secure: Callable[[web.Request], bool],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal handler that adds HSTS (RFC 6797) to responses over TLS."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        if is_secure(request):
            response.headers["Strict-Transport-Security"] = HSTS

    return add


def hide_server_version() -> None:
    """Set the header `Server` to a name without versions of Python and aiohttp.

    A constant of aiohttp, because its responses to malformed requests pass no application.
    """
    web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]


def _control_character(where: str) -> InvalidInputError:
    return InvalidInputError(f"The {where} contains a control character or is not UTF-8. Remove it.")
