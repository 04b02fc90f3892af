"""The sign-in page, and the page to show after a sign-in."""

from http import HTTPStatus

from aiohttp import web

from registry.portal.pages import Pages
from registry.portal.sessions import PortalSessions


class SignInPage:
    """Renders the sign-in page.

    Args:
        provider: Display name of the identity provider; empty if people cannot sign in at one.
    """

    def __init__(self, sessions: PortalSessions, pages: Pages, provider: str) -> None:
        self._sessions = sessions
        self._pages = pages
        self._provider = provider

    def show(
        self,
        request: web.Request,
        following: str,
        *,
        refusal: str = "",
        openid_refusal: str = "",
        status: HTTPStatus = HTTPStatus.OK,
        retry_after_s: int = 0,
    ) -> web.Response:
        """Show the page.

        Args:
            following: The page to show after the sign-in, as the browser sent it.
            refusal: Why a key was refused.
            openid_refusal: Why a person was refused.
        """
        carrier = web.Response()
        page = self._pages.page(
            "sign_in.html",
            status=status,
            headers={"Retry-After": str(retry_after_s)} if retry_after_s else {},
            form_token=self._sessions.stranger_token(request, carrier),
            following=own_path(following),
            refusal=refusal,
            openid_refusal=openid_refusal,
            provider=self._provider,
        )
        page.cookies.update(carrier.cookies)
        return page


def own_path(path: str) -> str:
    """Return the path if it is on this site; otherwise the start page."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own and "\\" not in path else "/"
