import hashlib
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from auth.errors import RefusedError
from auth.ports import AuditEvent
from auth.secret import Secret
from registry.api.http.origin import Origin
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

    def __init__(self, public_url: str | None = None) -> None:
        self.sessions, self.trail = MemoryPortalSessions(), Trail()
        self.keys = {hashlib.sha256(key.encode()).digest(): name for key, name in KEYS.items()}
        self.wait_s = 0.0
        self.failed: list[str] = []
        self.keeper = PortalSessions(
            sessions=self.sessions,
            organization_of=self._organization_of,
            operator_key=Secret(OPERATOR),
            failures=self._failures,
            trail=self.trail,
            origin=Origin(public_url, "crisper"),
        )

    async def _organization_of(self, key_hash: bytes) -> str | None:
        return self.keys.get(key_hash)

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
    assert waiting.value.retry_after_s == 7.0
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
