"""Pages for signing in and out."""

from http import HTTPStatus

from aiohttp import web

from auth.errors import RefusedError
from registry.api.http.peers import peer_of
from registry.model.access import Role
from registry.portal.guard import SIGN_IN, Form, Guard, see_other
from registry.portal.pages import Pages
from registry.portal.sessions import PortalSessions, SignedInUser, TooManyAttemptsError


class SignInViews:
    """Views for signing in and out."""

    def __init__(self, sessions: PortalSessions, guard: Guard, pages: Pages) -> None:
        self._sessions = sessions
        self._guard = guard
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(SIGN_IN, self._guard.open(self.show)),
            web.post(SIGN_IN, self._guard.open(self.sign_in)),
            web.post("/sign-out", self._guard.act(self.sign_out, needs=Role.VIEWER)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Show the sign-in form."""
        return self._form(request, request.query.get("next", "/"))

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
            return self._form(request, following, refusal, HTTPStatus.UNAUTHORIZED)
        except TooManyAttemptsError as error:
            wait_s = max(1, round(error.retry_after_s))
            refusal = f"Too many attempts from your address. Try again in {wait_s} s."
            return self._form(request, following, refusal, HTTPStatus.TOO_MANY_REQUESTS, wait_s)
        response = see_other(_own_path(following))
        self._sessions.keep(request, response, session)
        return response

    async def sign_out(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """End the session."""
        await self._sessions.sign_out(visitor, source=peer_of(request).source)
        response = see_other(SIGN_IN)
        self._sessions.forget(request, response)
        return response

    def _form(
        self,
        request: web.Request,
        following: str,
        refusal: str = "",
        status: HTTPStatus = HTTPStatus.OK,
        retry_after_s: int = 0,
    ) -> web.Response:
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
        carrier = web.Response()
        token = self._sessions.stranger_token(request, carrier)
        page = self._pages.page(
            "sign_in.html",
            status=status,
            headers=headers,
            form_token=token,
            following=_own_path(following),
            refusal=refusal,
        )
        page.cookies.update(carrier.cookies)
        return page


def _own_path(path: str) -> str:
    """Return the path if it is on this site; otherwise the start page."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own and "\\" not in path else "/"
