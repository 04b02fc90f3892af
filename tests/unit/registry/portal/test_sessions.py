import hashlib
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from auth.errors import RefusedError
from auth.ports import AuditEvent
from auth.secret import Secret
from registry.api.http.origin import Origin
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
    """Portal sessions in memory, with a settable clock for attempts."""

    def __init__(self, public_url: str | None = None) -> None:
        self.sessions, self.trail = MemoryPortalSessions(), Trail()
        self.keys = {hashlib.sha256(key.encode()).digest(): name for key, name in KEYS.items()}
        self.wait_s = 0.0
        self.keeper = PortalSessions(
            sessions=self.sessions,
            organization_of=self._organization_of,
            operator_key=Secret(OPERATOR),
            attempts=self._attempts,
            trail=self.trail,
            origin=Origin(public_url, "crisper"),
        )

    async def _organization_of(self, key_hash: bytes) -> str | None:
        return self.keys.get(key_hash)

    async def _attempts(self, source: str) -> float:
        assert source == "portal:192.0.2.1"
        return self.wait_s

    async def sign_in(self, key: str) -> Secret:
        return await self.keeper.sign_in(key, source="192.0.2.1")


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


async def test_who_tries_too_often_waits_even_with_a_good_key() -> None:
    door = Door()
    door.wait_s = 7.0
    with pytest.raises(TooManyAttemptsError) as waiting:
        await door.sign_in("key-of-acme")
    assert waiting.value.retry_after_s == 7.0
    assert door.sessions.kept == {}


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
