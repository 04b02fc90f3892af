"""Wrapper of the portal's handlers: checks sessions and form tokens, renders errors as pages."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from auth.actor import acting_as
from auth.secret import Secret
from registry.api.http.bodies import read_form
from registry.api.http.problems import problem_response
from registry.model.access import Role
from registry.portal.pages import HEADERS, Pages
from registry.portal.sessions import FORM_ID, PortalSessions, SignedInUser

SIGN_IN: Final = "/sign-in"
FORM_TOKEN: Final = "form_token"  # noqa: S105 (name of a field)
RETURN: Final = "return"
"""Field of a form that was kept over an expired session: show it again."""

_OF_MACHINES: Final = ("/v2", "/token", "/api/", "/.well-known/")

Form = Mapping[str, str]
Show = Callable[[web.Request, SignedInUser], Awaitable[web.StreamResponse]]
Act = Callable[[web.Request, SignedInUser, Form], Awaitable[web.StreamResponse]]


class Guarded:
    """Handler of a portal's route.

    Attributes:
        needs: The least role that is admitted; None for public pages.
    """

    def __init__(self, handler: Handler, needs: Role | None) -> None:
        self._handler = handler
        self.needs = needs

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Handle a request."""
        return await self._handler(request)


class Guard:
    """Wraps the portal's handlers, which get the signed-in user and a verified form, for aiohttp."""

    def __init__(self, sessions: PortalSessions, pages: Pages) -> None:
        self._sessions = sessions
        self._pages = pages

    def show(self, handler: Show, *, needs: Role) -> Handler:
        """Wrap a handler that shows a page to a signed-in user. Others are redirected to the sign-in page.

        Args:
            needs: The least role that may see the page.
        """

        async def handle(request: web.Request, visitor: SignedInUser | None) -> web.StreamResponse:
            if visitor is None:
                return self._to_sign_in(request)
            _admit(request, visitor, needs)
            with acting_as(visitor.actor):
                return await handler(request, visitor)

        return self._with_errors(handle, needs)

    def act(self, handler: Act, *, needs: Role, again: Act | None = None) -> Handler:
        """Wrap a handler that processes a signed-in user's form.

        Args:
            needs: The least role that may submit the form.
            again: Shows the form with what was entered, and does nothing else. If the session has expired,
                the user signs in and returns to it.
        """

        async def handle(request: web.Request, visitor: SignedInUser | None) -> web.StreamResponse:
            can_return = again is not None and is_own_page(request)
            if visitor is None:
                entered = dict(await read_form(request)) if can_return else None
                return self._signed_out(request, entered)
            form = dict(await read_form(request))
            if again is not None and can_return and form.pop(RETURN, ""):
                _admit(request, visitor, needs)
                return await again(request, visitor, form)
            if not self._sessions.is_own_form(request, visitor, form.pop(FORM_TOKEN, "")):
                if can_return:
                    return self._signed_out(request, form, is_signed_in=True)
                raise _out_of_date()
            _admit(request, visitor, needs)
            await self._sessions.count_change(visitor)
            with acting_as(visitor.actor):
                return await handler(request, visitor, form)

        return self._with_errors(handle, needs)

    def inspect(self, handler: Act, *, needs: Role) -> Handler:
        """Wrap a handler that reads a signed-in user's form and changes nothing.

        The browser's word that the request comes from one of the server's own pages replaces the form's
        token, so that the form still works after the user has signed in again in another tab.

        Args:
            needs: The least role that may submit the form.
        """

        async def handle(request: web.Request, visitor: SignedInUser | None) -> web.StreamResponse:
            if not is_own_page(request):
                raise _out_of_date()
            if visitor is None and "HX-Request" in request.headers:
                return self._pages.page("signed_out_part.html")
            if visitor is None:
                return self._signed_out(request, None)
            _admit(request, visitor, needs)
            form = dict(await read_form(request))
            form.pop(FORM_TOKEN, None)
            await self._sessions.count_change(visitor)
            with acting_as(visitor.actor):
                return await handler(request, visitor, form)

        return self._with_errors(handle, needs)

    def open(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        """Wrap a handler that shows a public page."""

        async def handle(request: web.Request, _visitor: SignedInUser | None) -> web.StreamResponse:
            return await handler(request)

        return self._with_errors(handle, None)

    async def form(self, request: web.Request, visitor: SignedInUser | None) -> Form:
        """Read a form. Raises HTTPForbidden: the form token does not match the session."""
        form = dict(await read_form(request))
        if not self._sessions.is_own_form(request, visitor, form.pop(FORM_TOKEN, "")):
            raise _out_of_date()
        return form

    async def count_change(self, visitor: SignedInUser) -> None:
        """Count a further change of a form. Raises RateLimitedError: the organization makes too many."""
        await self._sessions.count_change(visitor)

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
        self,
        handler: Callable[[web.Request, SignedInUser | None], Awaitable[web.StreamResponse]],
        needs: Role | None,
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

        return Guarded(handle, needs).respond

    def _error_page(self, error: Exception, visitor: SignedInUser | None) -> web.Response:
        answer = problem_response(error)
        problem = json.loads(answer.text or "{}")
        kept = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
        return self._pages.page(
            "problem.html", visitor, status=HTTPStatus(answer.status), headers=kept, problem=problem
        )

    def _signed_out(
        self, request: web.Request, entered: Form | None, *, is_signed_in: bool = False
    ) -> web.Response:
        """Answer a form whose session is over.

        Args:
            entered: What was entered; credentials are left out. None if the form cannot be returned to.
            is_signed_in: Whether the user has signed in again since.
        """
        kept = {name: text for name, text in (entered or {}).items() if _may_be_kept(name)}
        page = _page_of_form(request)
        return self._pages.page(
            "signed_out.html",
            status=HTTPStatus.FORBIDDEN if is_signed_in else HTTPStatus.UNAUTHORIZED,
            can_return=entered is not None,
            kept=kept,
            action=request.path,
            is_signed_in=is_signed_in,
            sign_in=str(URL(SIGN_IN).with_query(next=page)),
            page=page,
        )

    @staticmethod
    def _to_sign_in(request: web.Request) -> web.Response:
        if "HX-Request" in request.headers:  # a self-refreshing part: redirect the whole page
            shown = request.rel_url.without_query_params("seen")
            headers = {**HEADERS, "HX-Redirect": str(_sign_in_for(str(shown)))}
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers=headers)
        location = str(_sign_in_for(request.path_qs))
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, hdrs.LOCATION: location})


def is_own_page(request: web.Request) -> bool:
    """Return whether the browser says that one of the server's own pages sent the request.

    Browsers send `Sec-Fetch-Site` to https and to the loopback address, and `Origin` with each form.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get(hdrs.ORIGIN, "")
    return bool(request.host) and origin.partition("://")[2] == request.host


def _sign_in_for(page: str) -> URL:
    return URL(SIGN_IN) if page == "/" else URL(SIGN_IN).with_query(next=page)


def _page_of_form(request: web.Request) -> str:
    """Return the page that a form was on, if the browser says so; else the start page."""
    try:
        referer = URL(request.headers.get(hdrs.REFERER, ""))
    except ValueError:
        return "/"
    return referer.path_qs if referer.host and referer.authority == request.host else "/"


def _may_be_kept(name: str) -> bool:
    """Return whether a form may come back with a field. Names of credentials have a dot."""
    return "." not in name and name not in {FORM_TOKEN, FORM_ID, RETURN}


def _out_of_date() -> web.HTTPForbidden:
    return web.HTTPForbidden(text="This form is out of date. Go back, reload the page and submit it again.")


def _admit(request: web.Request, visitor: SignedInUser, needs: Role) -> None:
    """Check the organization in the URL, and the user's role.

    Raises:
        NotFoundError: The page is another organization's or for operators, and stays hidden.
        AccessDeniedError: The user's role allows less.
    """
    organization = request.match_info.get("organization")
    if organization is not None:
        visitor.require(organization)
    visitor.require_role(needs)


def see_other(location: str) -> web.Response:
    """Redirect after a form, so that a reload does not submit it again (RFC 9110, section 15.4.4)."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, hdrs.LOCATION: location})
