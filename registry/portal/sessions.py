"""Sign-in, sessions, and form tokens against cross-site request forgery."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Final

from aiohttp import web

from auth.actor import OPERATOR_KEY, Actor, acting_as
from auth.errors import Cause, RefusedError
from auth.ports import AuditEvent, AuditTrail
from auth.secret import Secret
from registry.api.public import Caller, changes_of
from registry.api.public.authentication import caller_with
from registry.audit.throttling import site_of
from registry.audit.types import RegistryEventType
from registry.errors import AccessDeniedError, NotFoundError, RateLimitedError
from registry.model.access import Role
from registry.model.api_keys import ApiKey
from registry.portal.cookies import PortalCookies, form_token_of
from registry.portal.people import People, Person
from registry.portal.sealing import seal, unseal
from registry.portal.session_store import SessionStore
from registry.services.api_keys import MAX_KEY_LENGTH, hash_api_key

FAILURES_PER_MINUTE: Final = 20

FORM_ID: Final = "form_id"
"""Field of forms that must be processed once, also if the browser submits them again. Its value is random."""

_HIDDEN: Final = "There is no such page, or you have no access to it."


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A user with a session.

    Attributes:
        form_token: Token that all of the user's forms must contain.
        role: What the user may do.
        person: The user, if a person signed in and not the holder of a key.
        places: Organizations among which the person can choose.
    """

    caller: Caller
    session_id: str = field(repr=False)
    form_token: str = field(repr=False)
    role: Role = Role.VIEWER
    person: Person | None = None
    places: tuple[str, ...] = ()

    @property
    def is_operator(self) -> bool:
        """Whether the user may access all organizations and the server's own pages."""
        return self.caller.organization is None

    @property
    def can_change(self) -> bool:
        """Whether the user may change groups."""
        return self.role >= Role.MEMBER

    @property
    def can_manage(self) -> bool:
        """Whether the user may manage API keys and webhooks."""
        return self.role >= Role.OWNER

    @property
    def actor(self) -> Actor | None:
        """The user, for the audit trail."""
        return self.caller.actor

    def require(self, organization: str) -> None:
        """Raise NotFoundError if the user has no access to the organization, whose existence stays hidden."""
        if self.caller.organization not in {None, organization}:
            raise NotFoundError(_HIDDEN)

    def require_role(self, role: Role) -> None:
        """Check the user's role.

        Raises:
            NotFoundError: The page is for operators, and stays hidden from others.
            AccessDeniedError: The user's role allows less.
        """
        if self.role >= role:
            return
        if role is Role.OPERATOR:
            raise NotFoundError(_HIDDEN)
        raise AccessDeniedError(
            f"Your role is {self.role.label}, and this needs the role {role.label}. Ask an owner of your "
            "organization, or sign in again if your role has changed."
        )


class TooManyAttemptsError(Exception):
    """Too many failed sign-ins from one source.

    Attributes:
        wait_s: Seconds until the next attempt is allowed.
    """

    def __init__(self, retry_after_s: float) -> None:
        self.wait_s = max(1, round(retry_after_s))
        super().__init__(f"Too many attempts from your address. Try again in {self.wait_s} s.")


class PortalSessions:
    """Creates, finds and ends sessions.

    Args:
        key_of: Returns an API key by its hash; None if unknown or revoked.
        people: The roles of people who sign in at the identity provider; None if there is no provider.
        operator_key: The operator key.
        failures: Counts a failed sign-in from a source. Returns the seconds to wait; 0 if there were few.
        changes: Counts a change by an organization likewise; None is no limit.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        key_of: Callable[[bytes], Awaitable[ApiKey | None]],
        operator_key: Secret,
        failures: Callable[[str], Awaitable[float]],
        trail: AuditTrail,
        cookies: PortalCookies,
        people: People | None = None,
        changes: Callable[[str], Awaitable[float]] | None = None,
    ) -> None:
        self._changes = changes
        self._sessions = sessions
        self._key_of = key_of
        self._people = people
        self._operator = hash_api_key(operator_key.reveal())
        self._failures = failures
        self._trail = trail
        self.cookies = cookies

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
        key_hash = hash_api_key(key)
        caller = await self._key_caller(key_hash) if 0 < len(key) <= MAX_KEY_LENGTH else None
        if caller is None:
            refused = RegistryEventType.PORTAL_REFUSED
            await self._trail.record(AuditEvent(refused, cause=Cause.FORGED.value, source=source))
            await self.count_failure(source)
            raise RefusedError(Cause.FORGED)
        return await self._open(key_hash, caller, source=source, previous=previous)

    async def sign_in_person(self, person: Person, *, source: str, previous: str | None = None) -> Secret:
        """Create a session for a person who has signed in at the identity provider (see `sign_in`).

        Raises:
            RefusedError: The person has no role.
        """
        people = self._people
        user = people.user(person) if people else None
        if people is None or user is None:
            raise RefusedError(Cause.OUTSIDE_SCOPE)
        ttl_s = min(people.session_s, self._sessions.ttl_s)
        return await self._open(person.encode(), user.caller, source=source, previous=previous, ttl_s=ttl_s)

    async def is_first(self, state: str) -> bool:
        """Return whether an answer of the identity provider has not been processed before."""
        return await self._sessions.begin_form("openid", state) is None

    async def record_refusal(self, reason: str, *, source: str, actor: Actor | None = None) -> None:
        """Record that a person's sign-in was refused."""
        refused, detail = RegistryEventType.PORTAL_REFUSED, {"method": "openid", "reason": reason}
        await self._trail.record(AuditEvent(refused, source=source, detail=detail, actor=actor))

    async def count_failure(self, source: str) -> None:
        """Count a failed sign-in. Raises TooManyAttemptsError."""
        if (wait_s := await self._failures(f"portal:{site_of(source)}")) > 0:
            raise TooManyAttemptsError(wait_s)

    async def choose(self, visitor: SignedInUser, organization: str) -> None:
        """Let a person act in another organization. Raises NotFoundError: they have no role there."""
        if visitor.person is None or organization not in visitor.places:
            raise NotFoundError(_HIDDEN)
        await self._sessions.replace(visitor.session_id, visitor.person.at(organization).encode())

    async def sign_out(self, visitor: SignedInUser, *, source: str) -> None:
        """End a session."""
        await self._sessions.close(visitor.session_id)
        await self._trail.record(
            AuditEvent(RegistryEventType.PORTAL_SIGNED_OUT, visitor.caller.organization, source=source)
        )

    async def visitor(self, request: web.Request) -> SignedInUser | None:
        """Return the user of a request's session, or None.

        Revoking a key ends its sessions. The role of a person follows from the present settings.
        """
        session_id = self.session_id(request)
        holder = await self._sessions.find(session_id) if session_id is not None else None
        if session_id is None or holder is None:
            return None
        token = form_token_of(session_id)
        if person := Person.decode(holder):
            user = self._people.user(person) if self._people else None
            if user is None:
                return None
            return SignedInUser(user.caller, session_id, token, user.role, person, user.places)
        caller = await self._key_caller(holder)
        if caller is None:
            return None
        role = Role.OPERATOR if caller.organization is None else caller.scope.role
        return SignedInUser(caller, session_id, token, role)

    def session_id(self, request: web.Request) -> str | None:
        """Return the content of the session cookie; None if there is none."""
        return self.cookies.read(request, "session")

    def keep(self, request: web.Request, response: web.StreamResponse, session: Secret) -> None:
        """Set the session cookie, hidden from scripts and not sent with requests from other sites."""
        self.cookies.set(request, response, "session", session.reveal(), self._sessions.ttl_s)
        self.cookies.drop(request, response, "visit")

    def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Delete the session cookie."""
        self.cookies.drop(request, response, "session")

    def stranger_token(self, request: web.Request, response: web.StreamResponse) -> str:
        """Return the form token for a user without a session, bound to a separate cookie."""
        return form_token_of(self.cookies.visit(request, response, self._sessions.ttl_s))

    def is_own_form(self, request: web.Request, visitor: SignedInUser | None, shown: str) -> bool:
        """Return whether a form token matches the browser's cookie."""
        if (
            request.method != HTTPMethod.POST
            or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            return False
        visit = self.cookies.read(request, "visit")
        expected = visitor.form_token if visitor else form_token_of(visit) if visit else None
        return expected is not None and hmac.compare_digest(expected.encode(), shown.encode(errors="replace"))

    async def _open(
        self,
        holder: bytes,
        caller: Caller,
        *,
        source: str,
        previous: str | None,
        ttl_s: int | None = None,
    ) -> Secret:
        if previous is not None:
            await self._sessions.close(previous)
        session = await self._sessions.open(holder, ttl_s)
        with acting_as(caller.actor):
            signed_in = AuditEvent(RegistryEventType.PORTAL_SIGNED_IN, caller.organization, source=source)
        await self._trail.record(signed_in)
        return session

    async def _key_caller(self, key_hash: bytes) -> Caller | None:
        if hmac.compare_digest(key_hash, self._operator):
            return Caller(organization=None, actor=OPERATOR_KEY)
        key = await self._key_of(key_hash)
        return caller_with(key) if key is not None else None
