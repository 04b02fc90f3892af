"""Signing in at the identity provider: authorization code with PKCE (docs/adr/0081-named-people.md)."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from yarl import URL

from auth.errors import RefusedError
from registry.api.http.origin import Origin
from registry.api.http.peers import peer_of
from registry.audit.throttling import site_of
from registry.errors import IdentityProviderError, IdTokenError
from registry.identity.attempt import LIFETIME_S, SignInAttempt
from registry.identity.provider import IdentityProvider
from registry.model.access import RoleMapping
from registry.portal.guard import Guard, see_other
from registry.portal.pages import Pages
from registry.portal.people import Person
from registry.portal.sessions import PortalSessions, TooManyAttemptsError
from registry.portal.sign_in_page import SignInPage, own_path

START: Final = "/sign-in/openid"
CALLBACK: Final = START + "/callback"
ATTEMPTS_PER_MINUTE: Final = 60

_MAX_CODE_LENGTH: Final = 4096
_MAX_NAME_LENGTH: Final = 128
_NAMES: Final = ("name", "preferred_username", "email")
_log = structlog.get_logger(__name__)


class _RefusedError(Exception):
    """A sign-in that is refused.

    Attributes:
        reason: For the audit trail.
        status: Of the page.
    """

    def __init__(self, sentence: str, reason: str, status: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status


_OTHER_BROWSER: Final = (
    "This sign-in was not started in this browser, has expired or was completed before. Sign in again."
)


@dataclass(frozen=True, slots=True)
class OpenIdSignIn:
    """Sign-in at the identity provider.

    Attributes:
        redirect_url: Redirect URI, if the portal's is not at the origin.
        attempts: Counts an answer of the provider from a source. Returns the seconds to wait; 0 if there were
            few.
    """

    provider: IdentityProvider
    mapping: RoleMapping
    origin: Origin
    redirect_url: str | None
    attempts: Callable[[str], Awaitable[float]]

    @property
    def name(self) -> str:
        """The provider's host, for people."""
        return URL(self.provider.issuer).host or ""

    def redirect_uri(self, request: web.Request) -> str:
        """Return the address to which the provider sends the browser back."""
        return self.redirect_url or self.origin.url(request) + CALLBACK


class OpenIdViews:
    """Views that start a sign-in, and that take the provider's answer."""

    def __init__(
        self, sessions: PortalSessions, guard: Guard, pages: Pages, page: SignInPage, openid: OpenIdSignIn
    ) -> None:
        self._sessions = sessions
        self._guard = guard
        self._pages = pages
        self._page = page
        self._openid = openid

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(START, self._guard.open(self.start)),
            web.get(CALLBACK, self._guard.open(self.callback)),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Send the browser to the provider."""
        attempt = SignInAttempt.begin(own_path(request.query.get("next", "/")))
        redirect_uri = self._openid.redirect_uri(request)
        try:
            url = await self._openid.provider.authorization_url(attempt, redirect_uri)
        except IdentityProviderError as error:
            refusal = _unavailable(error)
            return self._page.show(
                request, attempt.following, openid_refusal=str(refusal), status=refusal.status
            )
        response = see_other(url)
        self._sessions.cookies.set(request, response, "login", attempt.cookie, LIFETIME_S)
        return response

    async def callback(self, request: web.Request) -> web.Response:
        """Create a session for the person whom the provider names, or say why not. An attempt ends here."""
        source = peer_of(request).source
        cookie = self._sessions.cookies.read(request, "login")
        attempt = SignInAttempt.parse(cookie) if cookie else None
        following = own_path(attempt.following) if attempt else "/"
        try:
            person = await self._person(request, attempt)
            session = await self._sessions.sign_in_person(
                person, source=source, previous=self._sessions.session_id(request)
            )
        except RefusedError:
            response = await self._no_role(request, following, person)
        except _RefusedError as error:
            response = await self._refused(request, following, error)
        else:
            # Browsers do not send the session's cookie with a redirect that another site caused.
            response = self._pages.page("signed_in.html", following=following)
            self._sessions.keep(request, response, session)
        self._sessions.cookies.drop(request, response, "login")
        return response

    async def _person(self, request: web.Request, attempt: SignInAttempt | None) -> Person:
        """Return the person who signed in. Raises _RefusedError."""
        query, provider = request.query, self._openid.provider
        # 1. The answer belongs to an attempt of this browser.
        if attempt is None or not hmac.compare_digest(
            attempt.state.encode(), query.get("state", "").encode(errors="replace")
        ):
            raise _RefusedError(_OTHER_BROWSER, "state")
        try:
            # 2. It comes from the provider that the attempt was started at.
            if not await provider.is_issuer(query.get("iss")):
                raise _RefusedError(
                    "The answer came from another identity provider. Sign in again.", "issuer"
                )
            # 3. It is processed once, and not too often.
            wait_s = await self._openid.attempts(f"openid:{site_of(peer_of(request).source)}")
            if wait_s > 0:
                raise _RefusedError(str(TooManyAttemptsError(wait_s)), "rate", HTTPStatus.TOO_MANY_REQUESTS)
            if not await self._sessions.is_first(attempt.state):
                raise _RefusedError(_OTHER_BROWSER, "replayed")
            # 4. It has a code, which the provider exchanges for the person's claims.
            code = query.get("code", "")
            if "error" in query or not 0 < len(code) <= _MAX_CODE_LENGTH:
                raise _RefusedError("The identity provider did not sign you in. Try again.", "denied")
            claims = await provider.claims(
                attempt,
                code,
                self._openid.redirect_uri(request),
                is_complete=self._openid.mapping.has_claim,
            )
        except IdentityProviderError as error:
            raise _unavailable(error) from None
        values = self._openid.mapping.values(claims)
        return Person(provider.issuer, str(claims["sub"]), _name(claims), values)

    async def _no_role(self, request: web.Request, following: str, person: Person) -> web.Response:
        source = peer_of(request).source
        await self._sessions.record_refusal("no role", source=source, actor=person.actor)
        refusal = (
            f"You are signed in as {person.name}, but have no role here. Ask the operator for one, then sign "
            "in again."
        )
        return self._page.show(request, following, openid_refusal=refusal, status=HTTPStatus.FORBIDDEN)

    async def _refused(self, request: web.Request, following: str, error: _RefusedError) -> web.Response:
        source, sentence, status = peer_of(request).source, str(error), error.status
        await self._sessions.record_refusal(error.reason, source=source)
        wait_s = 0
        try:
            await self._sessions.count_failure(source)
        except TooManyAttemptsError as many:
            sentence, status, wait_s = str(many), HTTPStatus.TOO_MANY_REQUESTS, many.wait_s
        return self._page.show(
            request, following, openid_refusal=sentence, status=status, retry_after_s=wait_s
        )


def _unavailable(error: IdentityProviderError) -> _RefusedError:
    """Log why the provider's answer cannot be used, and return what people are shown."""
    _log.warning("openid.failed", reason=str(error))
    if isinstance(error, IdTokenError):
        return _RefusedError("The identity provider's answer is not valid. Sign in again.", "id token")
    return _RefusedError(
        "The identity provider does not answer as expected. Try again in a minute, or sign in with an API "
        "key. The server's log has the reason.",
        "provider",
        HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _name(claims: Mapping[str, Any]) -> str:
    """Return a display name."""
    named = (claims.get(name) for name in _NAMES)
    text = next((each for each in named if isinstance(each, str) and each.strip()), str(claims["sub"]))
    return "".join(filter(str.isprintable, text)).strip()[:_MAX_NAME_LENGTH] or str(claims["sub"])
