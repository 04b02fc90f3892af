"""Cookies of the portal: the session, visits before sign-in, and a sign-in at the identity provider."""

import hashlib
import secrets
from typing import Final, Literal

from aiohttp import web

from registry.api.http.origin import Origin
from registry.services.api_keys import MAX_KEY_LENGTH

_VISIT_BYTES: Final = 16
_MAX_LENGTH: Final = {"session": MAX_KEY_LENGTH, "visit": MAX_KEY_LENGTH, "login": 3072}

CookieName = Literal["session", "visit", "login"]


class PortalCookies:
    """Reads and sets the cookies. Scripts cannot read them.

    Requests from other sites have none of them, except `login`: the identity provider redirects the browser
    back to the portal, and `SameSite=Lax` allows that.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def read(self, request: web.Request, name: CookieName) -> str | None:
        """Return a cookie's content; None if there is none."""
        text = request.cookies.get(self._name(request, name))
        return text if text and len(text) <= _MAX_LENGTH[name] else None

    def set(
        self, request: web.Request, response: web.StreamResponse, name: CookieName, value: str, max_age_s: int
    ) -> None:
        """Set a cookie."""
        response.set_cookie(
            self._name(request, name),
            value,
            max_age=max_age_s,
            path="/",
            secure=self._origin.is_secure(request),
            httponly=True,
            samesite="Lax" if name == "login" else "Strict",
        )

    def drop(self, request: web.Request, response: web.StreamResponse, name: CookieName) -> None:
        """Delete a cookie."""
        self.set(request, response, name, "", 0)

    def visit(self, request: web.Request, response: web.StreamResponse, max_age_s: int) -> str:
        """Return the cookie of a user without a session, and set it."""
        visit = self.read(request, "visit") or secrets.token_urlsafe(_VISIT_BYTES)
        self.set(request, response, "visit", visit, max_age_s)
        return visit

    def _name(self, request: web.Request, name: CookieName) -> str:
        """Return a cookie's name. Over TLS, no other host of the domain can set it (RFC 6265bis, 4.1.3.2)."""
        return f"__Host-crisper-{name}" if self._origin.is_secure(request) else f"crisper-{name}"


def form_token_of(cookie: str) -> str:
    """Derive a form token from a cookie. The cookie cannot be derived from the token."""
    return hashlib.sha256(b"crisper portal form|" + cookie.encode(errors="replace")).hexdigest()
