"""Who looks at the portal: sign-in with a key, sessions, and the tokens that forms carry."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Final, Protocol

from aiohttp import web

from auth.errors import Cause, RefusedError
from auth.ports import AuditEvent, AuditTrail
from auth.secret import Secret
from registry.api.http.origin import Origin
from registry.api.public import Caller
from registry.audit.types import RegistryEventType
from registry.errors import NotFoundError
from registry.services.api_keys import MAX_KEY_LENGTH, hash_api_key

ATTEMPTS_PER_MINUTE: Final = 20

_VISIT_BYTES: Final = 16


class SessionStore(Protocol):
    """Where sessions are kept (`registry.ephemeral.portal_sessions`)."""

    ttl_s: int

    async def open(self, key_hash: bytes) -> Secret:
        """Begin a session; return its id."""

    async def find(self, session_id: str) -> bytes | None:
        """Return the hash of the key that opened a session."""

    async def close(self, session_id: str) -> None:
        """End a session."""


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """Somebody with a session.

    Attributes:
        form_token: What each of their forms has to carry.
    """

    caller: Caller
    session_id: str = field(repr=False)
    form_token: str = field(repr=False)

    @property
    def is_operator(self) -> bool:
        """Whether they reach every organization, and the server itself."""
        return self.caller.organization is None

    def require(self, organization: str) -> None:
        """Answer another customer's organization as one that is not there."""
        if self.caller.organization not in {None, organization}:
            raise NotFoundError("There is no such page, or this key does not reach it.")

    def require_operator(self) -> None:
        """Answer the operator's pages to customers as if they were not there."""
        if not self.is_operator:
            raise NotFoundError("There is no such page, or this key does not reach it.")


class TooManyAttemptsError(Exception):
    """Somebody tries too many keys.

    Attributes:
        retry_after_s: When the next attempt will be taken.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s


class PortalSessions:
    """Opens, finds and ends sessions.

    Args:
        organization_of: Tells whose API key has a hash; None when it is nobody's, or revoked.
        operator_key: The operator's.
        attempts: Counts an attempt from a source; returns the seconds to wait first, 0 for none.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        organization_of: Callable[[bytes], Awaitable[str | None]],
        operator_key: Secret,
        attempts: Callable[[str], Awaitable[float]],
        trail: AuditTrail,
        origin: Origin,
    ) -> None:
        self._sessions = sessions
        self._organization_of = organization_of
        self._operator = hash_api_key(operator_key.reveal())
        self._attempts = attempts
        self._trail = trail
        self._origin = origin

    async def sign_in(self, key: str, *, source: str) -> Secret:
        """Begin a session for the holder of a key; return what the cookie carries.

        Raises:
            TooManyAttemptsError: This source has tried too often.
            RefusedError: The key is nobody's.
        """
        if (wait_s := await self._attempts(f"portal:{source}")) > 0:
            raise TooManyAttemptsError(wait_s)
        key = key.strip()
        caller = await self._caller(hash_api_key(key)) if 0 < len(key) <= MAX_KEY_LENGTH else None
        if caller is None:
            await self._trail.record(
                AuditEvent(RegistryEventType.PORTAL_REFUSED, cause=Cause.FORGED.value, source=source)
            )
            raise RefusedError(Cause.FORGED)
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
        """Return whose session a request belongs to; a key that was revoked ends its sessions."""
        session_id = request.cookies.get(self._name(request, "session"))
        if not session_id or len(session_id) > MAX_KEY_LENGTH:
            return None
        key_hash = await self._sessions.find(session_id)
        caller = await self._caller(key_hash) if key_hash is not None else None
        return SignedInUser(caller, session_id, _form_token(session_id)) if caller is not None else None

    def keep(self, request: web.Request, response: web.StreamResponse, session: Secret) -> None:
        """Give the browser its session; script does not see it, and other sites' requests do not carry it."""
        self._set(request, response, "session", session.reveal(), self._sessions.ttl_s)
        self._drop(request, response, "visit")

    def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take the session from the browser."""
        self._drop(request, response, "session")

    def stranger_token(self, request: web.Request, response: web.StreamResponse) -> str:
        """Return the token for the form of somebody without a session, tied to a cookie of its own."""
        visit = request.cookies.get(self._name(request, "visit")) or secrets.token_urlsafe(_VISIT_BYTES)
        self._set(request, response, "visit", visit, self._sessions.ttl_s)
        return _form_token(visit)

    def is_own_form(self, request: web.Request, visitor: SignedInUser | None, shown: str) -> bool:
        """Tell whether a form was filled in on a page of ours, by the browser that it was made for."""
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
        """Name a cookie; over TLS so that no other host of the domain can set it (RFC 6265bis, 4.1.3.2)."""
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
    """Derive a form's token from a cookie; who sees a page with it cannot tell the cookie."""
    return hashlib.sha256(b"crisper portal form|" + cookie.encode(errors="replace")).hexdigest()
