"""Wrapper of the portal's handlers: checks sessions and form tokens, renders errors as pages."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from auth.secret import Secret
from registry.api.http.bodies import read_form
from registry.api.http.problems import problem_response
from registry.portal.pages import HEADERS, Pages
from registry.portal.sessions import PortalSessions, SignedInUser

SIGN_IN: Final = "/sign-in"
FORM_TOKEN: Final = "form_token"  # noqa: S105 (name of a field)

_OF_MACHINES: Final = ("/v2", "/token", "/api/", "/.well-known/")

Form = Mapping[str, str]
Show = Callable[[web.Request, SignedInUser], Awaitable[web.StreamResponse]]
Act = Callable[[web.Request, SignedInUser, Form], Awaitable[web.StreamResponse]]


class Guard:
    """Wraps the portal's handlers, which get the signed-in user and a verified form, for aiohttp."""

    def __init__(self, sessions: PortalSessions, pages: Pages) -> None:
        self._sessions = sessions
        self._pages = pages

    def show(self, handler: Show) -> Handler:
        """Wrap a handler that shows a page to a signed-in user. Others are redirected to the sign-in page."""

        async def handle(request: web.Request, visitor: SignedInUser | None) -> web.StreamResponse:
            return await handler(request, visitor) if visitor else self._to_sign_in(request)

        return self._with_errors(handle)

    def act(self, handler: Act) -> Handler:
        """Wrap a handler that processes a signed-in user's form."""

        async def handle(request: web.Request, visitor: SignedInUser | None) -> web.StreamResponse:
            if visitor is None:
                return self._pages.page("signed_out.html", status=HTTPStatus.UNAUTHORIZED)
            form = await self.form(request, visitor)
            await self._sessions.count_change(visitor)
            return await handler(request, visitor, form)

        return self._with_errors(handle)

    def open(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        """Wrap a handler that shows a public page."""

        async def handle(request: web.Request, _visitor: SignedInUser | None) -> web.StreamResponse:
            return await handler(request)

        return self._with_errors(handle)

    async def form(self, request: web.Request, visitor: SignedInUser | None) -> Form:
        """Read a form. Raises HTTPForbidden: the form token does not match the session."""
        form = dict(await read_form(request))
        if not self._sessions.is_own_form(request, visitor, form.pop(FORM_TOKEN, "")):
            raise web.HTTPForbidden(
                text="This form is out of date. Go back, reload the page and submit it again."
            )
        return form

    async def begin(self, visitor: SignedInUser, form: Form) -> str | None:
        """Return None if a form is new, else the page to show: it was submitted before."""
        return await self._sessions.begin_form(visitor, form)

    async def end(self, visitor: SignedInUser, form: Form, page: str) -> None:
        """Record the page to show if a form is submitted again."""
        await self._sessions.end_form(visitor, form, page)

    async def leave_secret(self, visitor: SignedInUser, page: str, secret: Secret) -> None:
        """Keep a secret until the user's browser gets the page, once."""
        await self._sessions.leave_secret(visitor, page, secret)

    async def take_secret(self, request: web.Request, visitor: SignedInUser, page: str) -> Secret | None:
        """Return the secret of a page for its first display; None if it was read before or has expired."""
        if request.method != hdrs.METH_GET or "HX-Request" in request.headers:
            return None
        return await self._sessions.take_secret(visitor, page)

    def lost(self) -> Middleware:
        """Return the middleware that answers unknown URLs with a page, if the client is a browser."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPNotFound as error:
                wants_page = "text/html" in request.headers.get(hdrs.ACCEPT, "")
                if not wants_page or request.path.startswith(_OF_MACHINES):
                    raise
                return self._error_page(error, await self._sessions.visitor(request))

        return answer

    def _with_errors(
        self, handler: Callable[[web.Request, SignedInUser | None], Awaitable[web.StreamResponse]]
    ) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            visitor = None
            try:
                visitor = await self._sessions.visitor(request)
                return await handler(request, visitor)
            except Exception as error:
                if isinstance(error, web.HTTPException) and error.status < HTTPStatus.BAD_REQUEST:
                    raise
                return self._error_page(error, visitor)

        return handle

    def _error_page(self, error: Exception, visitor: SignedInUser | None) -> web.Response:
        answer = problem_response(error)
        problem = json.loads(answer.text or "{}")
        kept = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
        return self._pages.page(
            "problem.html", visitor, status=HTTPStatus(answer.status), headers=kept, problem=problem
        )

    @staticmethod
    def _to_sign_in(request: web.Request) -> web.Response:
        if "HX-Request" in request.headers:  # a self-refreshing part: redirect the whole page
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={**HEADERS, "HX-Redirect": SIGN_IN})
        here = URL(SIGN_IN) if request.path == "/" else URL(SIGN_IN).with_query(next=request.path_qs)
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, hdrs.LOCATION: str(here)})


def see_other(location: str) -> web.Response:
    """Redirect after a form, so that a reload does not submit it again (RFC 9110, section 15.4.4)."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, hdrs.LOCATION: location})
