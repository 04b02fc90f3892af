"""How the operator API answers."""

from http import HTTPStatus

from aiohttp import hdrs, web


def respond(document: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Answer a document."""
    return web.json_response(document, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})
