"""Signing in to the portal of a server that speaks TLS: what the browser is told of the cookie."""

import pytest

from tests.support.certified import Certified
from tests.support.portal import PortalVisitor, cookies_of

COOKIES = {"__Host-crisper-visit", "__Host-crisper-session"}


@pytest.fixture
def stranger(certified: Certified) -> PortalVisitor:
    return PortalVisitor(certified.server.url, certified.tls.trusting())


def test_every_cookie_is_secure_and_this_hosts_alone(certified: Certified, stranger: PortalVisitor) -> None:
    page = stranger.get("/sign-in").expect(200)
    done = stranger.send("/sign-in", {"key": certified.organization.api_key}).expect(303)
    out = stranger.copy().send("/sign-out", {}, page="/").expect(303)
    for cookies in map(cookies_of, (page, done, out)):
        assert set() < cookies.keys() <= COOKIES
        for cookie in cookies.values():
            assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
            assert (cookie["path"], cookie["domain"]) == ("/", "")  # else browsers refuse `__Host-`
    assert cookies_of(done)["__Host-crisper-session"].value
    assert cookies_of(out)["__Host-crisper-session"]["max-age"] == "0"


def test_the_session_opens_the_portal(certified: Certified, stranger: PortalVisitor) -> None:
    stranger.send("/sign-in", {"key": certified.organization.api_key}).expect(303)
    assert certified.group in stranger.text("/")


def test_a_cookie_that_another_host_could_have_set_opens_nothing(
    certified: Certified, stranger: PortalVisitor
) -> None:
    stranger.send("/sign-in", {"key": certified.organization.api_key}).expect(303)
    session = stranger.cookies["__Host-crisper-session"]
    stranger.cookies = {"crisper-session": session}
    assert stranger.get("/").expect(303).headers["Location"] == "/sign-in"
