"""Signing in with a key, signing out, and the page of the signed-in user."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from auth.errors import RefusedError
from registry.api.http.peers import peer_of
from registry.model.access import Role
from registry.portal.guard import SIGN_IN, Form, Guard, see_other
from registry.portal.pages import Pages
from registry.portal.sessions import PortalSessions, SignedInUser, TooManyAttemptsError
from registry.portal.sign_in_page import SignInPage, own_path

ACCOUNT: Final = "/account"


class SignInViews:
    """Views for signing in and out."""

    def __init__(self, sessions: PortalSessions, guard: Guard, pages: Pages, page: SignInPage) -> None:
        self._sessions = sessions
        self._guard = guard
        self._pages = pages
        self._page = page

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(SIGN_IN, self._guard.open(self.show)),
            web.post(SIGN_IN, self._guard.open(self.sign_in)),
            web.post("/sign-out", self._guard.act(self.sign_out, needs=Role.VIEWER)),
            web.get(ACCOUNT, self._guard.show(self.account, needs=Role.VIEWER)),
            web.post(ACCOUNT, self._guard.act(self.choose, needs=Role.VIEWER)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Show the sign-in form."""
        return self._page.show(request, request.query.get("next", "/"))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Create a session for the holder of a key."""
        form = await self._guard.form(request, None)
        following = form.get("next", "/")
        try:
            session = await self._sessions.sign_in(
                form.get("key", ""),
                source=peer_of(request).source,
                previous=self._sessions.session_id(request),
            )
        except RefusedError:
            refusal = "No organization has this key. Check that it is complete and has not been revoked."
            return self._page.show(request, following, refusal=refusal, status=HTTPStatus.UNAUTHORIZED)
        except TooManyAttemptsError as error:
            return self._page.show(
                request,
                following,
                refusal=str(error),
                status=HTTPStatus.TOO_MANY_REQUESTS,
                retry_after_s=error.wait_s,
            )
        response = see_other(own_path(following))
        self._sessions.keep(request, response, session)
        return response

    async def sign_out(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """End the session."""
        await self._sessions.sign_out(visitor, source=peer_of(request).source)
        response = see_other(SIGN_IN)
        self._sessions.forget(request, response)
        return response

    async def account(self, _request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show who is signed in, with which role, and the organizations to choose from."""
        return self._pages.page("account.html", visitor)

    async def choose(self, _request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Act in another organization from now on."""
        await self._sessions.choose(visitor, form.get("organization", ""))
        return see_other("/")
