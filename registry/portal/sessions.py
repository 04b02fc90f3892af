"""Sign-in with an API key, sessions, and form tokens against cross-site request forgery."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Final, Protocol

from aiohttp import web

from auth.errors import Cause, RefusedError
from auth.ports import AuditEvent, AuditTrail
from auth.secret import Secret
from registry.api.http.origin import Origin
from registry.api.public import Caller, changes_of
from registry.audit.throttling import site_of
from registry.audit.types import RegistryEventType
from registry.errors import NotFoundError, RateLimitedError
from registry.portal.sealing import seal, unseal
from registry.services.api_keys import MAX_KEY_LENGTH, hash_api_key

FAILURES_PER_MINUTE: Final = 20

FORM_ID: Final = "form_id"
"""Field of forms that must be processed once, also if the browser submits them again. Its value is random."""

_VISIT_BYTES: Final = 16


class SessionStore(Protocol):
    """Store of sessions (`registry.ephemeral.portal_sessions`)."""

    ttl_s: int

    async def open(self, key_hash: bytes) -> Secret:
        """Create a session. Returns its id."""

    async def find(self, session_id: str) -> bytes | None:
        """Return the hash of the API key that opened a session, or None."""

    async def close(self, session_id: str) -> None:
        """End a session."""

    async def begin_form(self, session_id: str, form_id: str) -> str | None:
        """Record that a form was submitted. Returns None the first time.

        Returns:
            If it was submitted before, the page to show; empty if it is still being processed.
        """

    async def end_form(self, session_id: str, form_id: str, page: str) -> None:
        """Record the page to show if a form is submitted again."""

    async def put_secret(self, session_id: str, page: str, sealed: bytes) -> None:
        """Store a sealed secret for one read on a page, for a short time."""

    async def take_secret(self, session_id: str, page: str) -> bytes | None:
        """Return and delete the sealed secret of a page, or None."""


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A user with a session.

    Attributes:
        form_token: Token that all of the user's forms must contain.
    """

    caller: Caller
    session_id: str = field(repr=False)
    form_token: str = field(repr=False)

    @property
    def is_operator(self) -> bool:
        """Whether the user may access all organizations and the server's own pages."""
        return self.caller.organization is None

    def require(self, organization: str) -> None:
        """Raise NotFoundError if the user has no access to the organization, whose existence stays hidden."""
        if self.caller.organization not in {None, organization}:
            raise NotFoundError("There is no such page, or your API key has no access to it.")

    def require_operator(self) -> None:
        """Raise NotFoundError if the user is no operator, so that operators' pages stay hidden."""
        if not self.is_operator:
            raise NotFoundError("There is no such page, or your API key has no access to it.")


class TooManyAttemptsError(Exception):
    """Too many failed sign-ins from one source.

    Attributes:
        retry_after_s: Seconds until the next attempt is allowed.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many failed sign-ins")
        self.retry_after_s = retry_after_s


class PortalSessions:
    """Creates, finds and ends sessions.

    Args:
        organization_of: Returns the organization of an API key by the key's hash; None if unknown or revoked.
        operator_key: The operator key.
        failures: Counts a failed sign-in from a source. Returns the seconds to wait; 0 if there were few.
        changes: Counts a change by an organization likewise; None is no limit.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        organization_of: Callable[[bytes], Awaitable[str | None]],
        operator_key: Secret,
        failures: Callable[[str], Awaitable[float]],
        trail: AuditTrail,
        origin: Origin,
        changes: Callable[[str], Awaitable[float]] | None = None,
    ) -> None:
        self._changes = changes
        self._sessions = sessions
        self._organization_of = organization_of
        self._operator = hash_api_key(operator_key.reveal())
        self._failures = failures
        self._trail = trail
        self._origin = origin

    async def count_change(self, visitor: SignedInUser) -> None:
        """Count a form of a customer. Raises RateLimitedError: the organization makes too many changes."""
        organization = visitor.caller.organization
        if self._changes is None or organization is None:
            return
        if (wait_s := await self._changes(changes_of(organization))) > 0:
            raise RateLimitedError(wait_s)

    async def begin_form(self, visitor: SignedInUser, form: Mapping[str, str]) -> str | None:
        """Record that a form with a `FORM_ID` was submitted (`SessionStore.begin_form`)."""
        form_id = form.get(FORM_ID, "")
        return await self._sessions.begin_form(visitor.session_id, form_id) if form_id else None

    async def end_form(self, visitor: SignedInUser, form: Mapping[str, str], page: str) -> None:
        """Record the page to show if the form is submitted again."""
        if form_id := form.get(FORM_ID, ""):
            await self._sessions.end_form(visitor.session_id, form_id, page)

    async def leave_secret(self, visitor: SignedInUser, page: str, secret: Secret) -> None:
        """Keep a secret until the user's browser gets the page, once (`registry.portal.sealing`)."""
        sealed = seal(secret, visitor.session_id, page)
        await self._sessions.put_secret(visitor.session_id, page, sealed)

    async def take_secret(self, visitor: SignedInUser, page: str) -> Secret | None:
        """Return the secret of a page; None if it was read before, or not read in time."""
        sealed = await self._sessions.take_secret(visitor.session_id, page)
        return unseal(sealed, visitor.session_id, page) if sealed is not None else None

    async def sign_in(self, key: str, *, source: str, previous: str | None = None) -> Secret:
        """Create a session for the holder of a key. Returns the content of the session cookie.

        Only failures are counted, by source or its IPv6 /64: nobody can lock out the holders of valid keys.

        Args:
            previous: Id of the browser's earlier session, which ends.

        Raises:
            TooManyAttemptsError: The source made too many attempts that failed.
            RefusedError: The key is unknown or revoked.
        """
        key = key.strip()
        caller = await self._caller(hash_api_key(key)) if 0 < len(key) <= MAX_KEY_LENGTH else None
        if caller is None:
            await self._trail.record(
                AuditEvent(RegistryEventType.PORTAL_REFUSED, cause=Cause.FORGED.value, source=source)
            )
            if (wait_s := await self._failures(f"portal:{site_of(source)}")) > 0:
                raise TooManyAttemptsError(wait_s)
            raise RefusedError(Cause.FORGED)
        if previous is not None:
            await self._sessions.close(previous)
        session = await self._sessions.open(hash_api_key(key))
        await self._trail.record(
            AuditEvent(RegistryEventType.PORTAL_SIGNED_IN, caller.organization, source=source)
        )
        return session

    async def sign_out(self, visitor: SignedInUser, *, source: str) -> None:
        """End a session."""
        await self._sessions.close(visitor.session_id)
        await self._trail.record(
            AuditEvent(RegistryEventType.PORTAL_SIGNED_OUT, visitor.caller.organization, source=source)
        )

    async def visitor(self, request: web.Request) -> SignedInUser | None:
        """Return the user of a request's session, or None. Revoking a key ends its sessions."""
        session_id = self.session_id(request)
        key_hash = await self._sessions.find(session_id) if session_id is not None else None
        caller = await self._caller(key_hash) if key_hash is not None else None
        if session_id is None or caller is None:
            return None
        return SignedInUser(caller, session_id, _form_token(session_id))

    def session_id(self, request: web.Request) -> str | None:
        """Return the content of the session cookie; None if there is none."""
        session_id = request.cookies.get(self._name(request, "session"))
        return session_id if session_id and len(session_id) <= MAX_KEY_LENGTH else None

    def keep(self, request: web.Request, response: web.StreamResponse, session: Secret) -> None:
        """Set the session cookie, hidden from scripts and not sent with requests from other sites."""
        self._set(request, response, "session", session.reveal(), self._sessions.ttl_s)
        self._drop(request, response, "visit")

    def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Delete the session cookie."""
        self._drop(request, response, "session")

    def stranger_token(self, request: web.Request, response: web.StreamResponse) -> str:
        """Return the form token for a user without a session, bound to a separate cookie."""
        visit = request.cookies.get(self._name(request, "visit")) or secrets.token_urlsafe(_VISIT_BYTES)
        self._set(request, response, "visit", visit, self._sessions.ttl_s)
        return _form_token(visit)

    def is_own_form(self, request: web.Request, visitor: SignedInUser | None, shown: str) -> bool:
        """Return whether a form token matches the browser's cookie."""
        if (
            request.method != HTTPMethod.POST
            or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            return False
        visit = request.cookies.get(self._name(request, "visit"))
        expected = visitor.form_token if visitor else _form_token(visit) if visit else None
        return expected is not None and hmac.compare_digest(expected.encode(), shown.encode(errors="replace"))

    async def _caller(self, key_hash: bytes) -> Caller | None:
        if hmac.compare_digest(key_hash, self._operator):
            return Caller(organization=None)
        organization = await self._organization_of(key_hash)
        return Caller(organization) if organization is not None else None

    def _is_secure(self, request: web.Request) -> bool:
        return self._origin.is_secure(request)

    def _name(self, request: web.Request, name: str) -> str:
        """Return a cookie's name. Over TLS, no other host of the domain can set it (RFC 6265bis, 4.1.3.2)."""
        return f"__Host-crisper-{name}" if self._is_secure(request) else f"crisper-{name}"

    def _set(
        self, request: web.Request, response: web.StreamResponse, name: str, value: str, max_age_s: int
    ) -> None:
        response.set_cookie(
            self._name(request, name),
            value,
            max_age=max_age_s,
            path="/",
            secure=self._is_secure(request),
            httponly=True,
            samesite="Strict",
        )

    def _drop(self, request: web.Request, response: web.StreamResponse, name: str) -> None:
        self._set(request, response, name, "", 0)


def _form_token(cookie: str) -> str:
    """Derive a form token from a cookie. The cookie cannot be derived from the token."""
    return hashlib.sha256(b"crisper portal form|" + cookie.encode(errors="replace")).hexdigest()
