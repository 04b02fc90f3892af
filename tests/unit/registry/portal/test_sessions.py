import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from auth.errors import RefusedError
from auth.ports import AuditEvent
from auth.secret import Secret
from registry.api.http.origin import Origin
from registry.model.access import KeyScope, Role, RoleMapping
from registry.model.api_keys import ApiKey
from registry.portal.cookies import PortalCookies
from registry.portal.people import People, Person
from registry.portal.sealing import seal, unseal
from registry.portal.sessions import PortalSessions, TooManyAttemptsError
from tests.support.memory_ports import MemoryPortalSessions

KEYS = {"key-of-acme": "acme"}
OPERATOR = "operator-key"


class Trail:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class Door:
    """Portal sessions in memory, with a settable wait after failures."""

    def __init__(
        self,
        public_url: str | None = None,
        people: People | None = None,
        scope: KeyScope = KeyScope.FULL,
    ) -> None:
        self.scope = scope
        self.sessions, self.trail = MemoryPortalSessions(), Trail()
        self.keys = {hashlib.sha256(key.encode()).digest(): name for key, name in KEYS.items()}
        self.wait_s = 0.0
        self.failed: list[str] = []
        self.keeper = PortalSessions(
            sessions=self.sessions,
            key_of=self._key_of,
            operator_key=Secret(OPERATOR),
            failures=self._failures,
            trail=self.trail,
            cookies=PortalCookies(Origin(public_url, "crisper")),
            people=people,
        )

    async def _key_of(self, key_hash: bytes) -> ApiKey | None:
        organization = self.keys.get(key_hash)
        if organization is None:
            return None
        return ApiKey("id", organization, "ci", datetime(2026, 1, 1, tzinfo=UTC), scope=self.scope)

    async def _failures(self, source: str) -> float:
        self.failed.append(source)
        return self.wait_s

    async def sign_in(self, key: str, source: str = "192.0.2.1") -> Secret:
        return await self.keeper.sign_in(key, source=source)


def request(cookies: Mapping[str, str] | None = None, method: str = "GET", **headers: str) -> web.Request:
    cookie = "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request(method, "/", headers={**sent, "Cookie": cookie})


async def test_a_key_opens_its_organizations_session_or_the_operators() -> None:
    door = Door()
    for key, organization in ((" key-of-acme\n", "acme"), (OPERATOR, None)):
        session = await door.sign_in(key)
        visitor = await door.keeper.visitor(request({"crisper-session": session.reveal()}))
        assert visitor is not None
        assert visitor.caller.organization == organization
        assert visitor.is_operator is (organization is None)
    assert [event.type for event in door.trail.events] == ["portal.signed_in"] * 2


async def test_a_key_that_is_revoked_ends_its_sessions() -> None:
    door = Door()
    session = await door.sign_in("key-of-acme")
    door.keys.clear()
    assert await door.keeper.visitor(request({"crisper-session": session.reveal()})) is None


@pytest.mark.parametrize("key", ["", "nobody's", "x" * 513, "key-of-acme\N{ZERO WIDTH SPACE}"])
async def test_other_keys_are_refused_and_recorded_without_the_key(key: str) -> None:
    door = Door()
    with pytest.raises(RefusedError):
        await door.sign_in(key)
    (event,) = door.trail.events
    assert (event.type, event.source, event.detail) == ("portal.refused", "192.0.2.1", {})
    assert door.sessions.kept == {}


async def test_a_source_that_fails_too_often_waits_but_a_valid_key_is_never_locked_out() -> None:
    door = Door()
    door.wait_s = 7.0
    with pytest.raises(TooManyAttemptsError) as waiting:
        await door.sign_in("guess")
    assert waiting.value.wait_s == 7
    assert door.sessions.kept == {}
    await door.sign_in("key-of-acme")
    assert door.failed == ["portal:192.0.2.1"]


@pytest.mark.parametrize(
    ("source", "counted"),
    [
        ("192.0.2.9", "portal:192.0.2.9"),
        ("2001:db8:1:2:3:4:5:6", "portal:2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "portal:2001:db8:1:2::/64"),
        ("unknown", "portal:unknown"),
    ],
)
async def test_failures_are_counted_by_address_or_ipv6_network(source: str, counted: str) -> None:
    door = Door()
    with pytest.raises(RefusedError):
        await door.sign_in("guess", source)
    assert door.failed == [counted]


async def test_another_sign_in_of_a_browser_ends_its_earlier_session() -> None:
    door = Door()
    first = await door.sign_in("key-of-acme")
    second = await door.keeper.sign_in(OPERATOR, source="192.0.2.1", previous=first.reveal())
    assert await door.keeper.visitor(request({"crisper-session": first.reveal()})) is None
    assert await door.keeper.visitor(request({"crisper-session": second.reveal()})) is not None


@pytest.mark.parametrize(
    ("public_url", "name", "secure"),
    [(None, "crisper-session", False), ("https://registry.example.com", "__Host-crisper-session", True)],
)
def test_over_tls_the_cookie_is_secure_and_of_this_host_alone(
    public_url: str | None, name: str, *, secure: bool
) -> None:
    response = web.Response()
    Door(public_url).keeper.keep(request(), response, Secret("id"))
    cookie = response.cookies[name]
    assert cookie["secure"] is secure
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["domain"] == ""


async def test_a_form_is_taken_from_the_browser_that_it_was_made_for_alone() -> None:
    door = Door()
    session = (await door.sign_in("key-of-acme")).reveal()
    other = (await door.sign_in("key-of-acme")).reveal()
    mine = await door.keeper.visitor(request({"crisper-session": session}))
    theirs = await door.keeper.visitor(request({"crisper-session": other}))
    assert mine is not None
    assert theirs is not None
    post = request({"crisper-session": session}, "POST")
    assert door.keeper.is_own_form(post, mine, mine.form_token)
    assert not door.keeper.is_own_form(post, mine, theirs.form_token)
    assert not door.keeper.is_own_form(post, mine, "")
    assert not door.keeper.is_own_form(request({}, "POST"), None, mine.form_token)
    foreign = request({"crisper-session": session}, "POST", Sec_Fetch_Site="same-site")
    assert not door.keeper.is_own_form(foreign, mine, mine.form_token)
    assert session not in mine.form_token
    assert session not in repr(mine)
    assert mine.form_token not in repr(mine)


@pytest.mark.parametrize(
    ("scope", "role"), [("read", Role.VIEWER), ("deploy", Role.MEMBER), ("full", Role.OWNER)]
)
async def test_a_key_has_the_role_of_its_scope(scope: str, role: Role) -> None:
    door = Door(scope=KeyScope(scope))
    session = await door.sign_in("key-of-acme")
    visitor = await door.keeper.visitor(request({"crisper-session": session.reveal()}))
    assert visitor is not None
    assert visitor.role is role
    assert visitor.actor is not None
    assert (visitor.actor.kind, visitor.actor.name) == ("api_key", "ci")


ISSUER = "https://id.example.com"
PEOPLE = People(
    ISSUER,
    RoleMapping("groups", {"ops": (Role.OPERATOR, None), "devs": (Role.MEMBER, "acme")}),
    session_s=600,
)
DAN = Person(ISSUER, "dan", "Dan Dev", ("devs",))


async def test_a_person_has_a_session_as_long_as_the_settings_give_a_role() -> None:
    door = Door(people=PEOPLE)
    session = await door.keeper.sign_in_person(DAN, source="192.0.2.1")
    cookie = request({"crisper-session": session.reveal()})
    visitor = await door.keeper.visitor(cookie)
    assert visitor is not None
    assert (visitor.role, visitor.caller.organization) == (Role.MEMBER, "acme")
    assert door.sessions.lifetimes == [600]
    (event,) = door.trail.events
    assert event.actor is not None
    assert (event.actor.id, event.actor.name) == ("dan", "Dan Dev")
    for people in (
        None,
        replace(PEOPLE, issuer="https://other.example.com"),
        replace(PEOPLE, mapping=RoleMapping("groups", {"ops": (Role.OPERATOR, None)})),
    ):
        door.keeper._people = people
        assert await door.keeper.visitor(cookie) is None


async def test_a_person_without_a_role_gets_no_session() -> None:
    door = Door(people=PEOPLE)
    for person in (replace(DAN, values=()), replace(DAN, issuer="https://other.example.com")):
        with pytest.raises(RefusedError):
            await door.keeper.sign_in_person(person, source="192.0.2.1")
    assert door.sessions.kept == {}


async def test_a_session_of_a_person_is_never_longer_than_others() -> None:
    door = Door(people=replace(PEOPLE, session_s=10**6))
    await door.keeper.sign_in_person(DAN, source="192.0.2.1")
    assert door.sessions.lifetimes == [door.sessions.ttl_s]


def test_no_hash_of_a_key_is_taken_for_a_person() -> None:
    assert Person.decode(DAN.encode()) == DAN
    assert len(DAN.encode()) > 32
    assert Person.decode(b"person:".ljust(32, b"x")) is None


async def test_a_secret_is_shown_once_and_stored_only_sealed() -> None:
    door = Door()
    one = await door.keeper.visitor(request({"crisper-session": (await door.sign_in(OPERATOR)).reveal()}))
    two = await door.keeper.visitor(request({"crisper-session": (await door.sign_in(OPERATOR)).reveal()}))
    assert one is not None
    assert two is not None
    await door.keeper.leave_secret(one, "/page", Secret("the token"))
    (sealed,) = door.sessions.secrets.values()
    assert b"the token" not in sealed
    assert await door.keeper.take_secret(two, "/page") is None
    assert await door.keeper.take_secret(one, "/page") == Secret("the token")
    assert await door.keeper.take_secret(one, "/page") is None


@pytest.mark.parametrize(
    ("session", "page", "cut"), [("two", "/page", 0), ("one", "/other", 0), ("one", "/page", 1)]
)
def test_a_sealed_secret_opens_only_for_its_session_and_page(session: str, page: str, cut: int) -> None:
    sealed = seal(Secret("the token"), "one", "/page")
    assert unseal(sealed, "one", "/page") == Secret("the token")
    assert unseal(sealed[cut:] if cut else sealed, session, page) is None
    assert unseal(b"", session, page) is None
