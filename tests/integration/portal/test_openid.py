"""Sign-in of people at a certified OpenID provider, and what is refused."""

import base64
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.support.crisper import CrisperServer, Organization
from tests.support.http import Response
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, Browser, OpenIdProvider
from tests.support.portal import PortalVisitor, cookies_of, plain
from tests.support.processes import free_port, wait_until

CALLBACK = "/sign-in/openid/callback"
SHORT_S = 3
ACCOUNTS: dict[str, dict[str, Any]] = {
    "olga": {"name": "Olga Ops", "groups": ["everyone", "ops"]},
    "anna": {"name": "Anna Admin", "groups": ["acme-admins"]},
    "dev": {"name": "Dan Dev", "groups": ["acme-devs"]},
    "vera": {"name": "Vera Viewer", "groups": ["acme-viewers"]},
    "both": {"name": "Bo Both", "groups": ["acme-viewers", "rival-admins"]},
    "nobody": {"name": "No <b>Role</b>", "groups": ["everyone"]},
}


@dataclass
class Site:
    server: CrisperServer
    provider: OpenIdProvider
    acme: Organization
    rival: Organization
    browsers: int = 0

    def browser(self) -> Browser:
        """Return a browser at an address of its own: failures are counted by address."""
        self.browsers += 1
        return Browser(
            PortalVisitor(
                self.server.url, source=f"127.0.{1 + self.browsers // 250}.{1 + self.browsers % 250}"
            )
        )

    def signed_in(self, subject: str) -> PortalVisitor:
        browser = self.browser()
        browser.sign_in(subject).expect(200)
        return browser.portal

    def refusals(self) -> list[str]:
        """Return the reasons of all refusals in the audit trail."""
        events = self.server.operator.events(type="portal.refused", limit="1000")
        return [event["detail"]["reason"] for event in events if "reason" in event["detail"]]

    def last_reason(self) -> str:
        """Return why the last answer of the provider was not used, from the server's log."""
        return [line for line in self.server.log.read_text().splitlines() if "openid.failed" in line][-1]

    def refused(self, answer: Response, reason: str, status: int = 401) -> str:
        """Check that an answer refuses the sign-in, opens no session and is in the trail."""
        answer.expect(status)
        assert "crisper-session" not in cookies_of(answer)
        assert self.refusals()[-1] == reason
        return plain(answer)


def environment(provider: OpenIdProvider, **changed: str) -> dict[str, str]:
    roles = {
        "ops": "operator",
        "acme-admins": "owner@acme",
        "acme-devs": "member@acme",
        "acme-viewers": "viewer@acme",
        "rival-admins": "owner@rival",
    }
    return {
        "CRISPER_OIDC_ISSUER": provider.issuer,
        "CRISPER_OIDC_CLIENT_ID": CLIENT_ID,
        "CRISPER_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "CRISPER_OIDC_SCOPES": "openid profile groups",
        "CRISPER_OIDC_ROLES": json.dumps({"claim": "groups", "roles": roles}),
        **changed,
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("openid"), free_port()
    with OpenIdProvider(folder / "provider", f"http://127.0.0.1:{port}{CALLBACK}") as provider:
        provider.set_accounts(ACCOUNTS)
        with CrisperServer(folder / "crisper", env=environment(provider), port=port) as server:
            acme, rival = (server.operator.create_organization(name) for name in ("acme", "rival"))
            yield Site(server, provider, acme, rival)


@pytest.fixture(autouse=True)
def _intact(site: Site) -> Iterator[None]:
    yield
    site.provider.tamper = None
    site.provider.set_accounts(ACCOUNTS)


def tampered(site: Site, **claims: object) -> Response:
    """Sign in with an ID token whose claims are changed, and which the provider's own key signs again."""
    return with_token(site, lambda token: site.provider.sign({**read(token), **claims}))


def with_token(site: Site, replaced: Any) -> Response:  # noqa: ANN401
    def tamper(path: str, document: dict[str, Any]) -> Mapping[str, Any]:
        return {**document, "id_token": replaced(document["id_token"])} if path == "/token" else document

    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    site.provider.tamper = tamper
    return browser.come_back(back)


def read(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def changed(url: str, **query: str | None) -> str:
    """Return a URL with other query parameters; None removes one."""
    found = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    kept = {name: value for name, value in {**found, **query}.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(kept)}"


@pytest.mark.parametrize(
    ("subject", "role", "organization"),
    [
        ("olga", "operator", "all"),
        ("anna", "owner", "acme"),
        ("dev", "member", "acme"),
        ("vera", "viewer", "acme"),
    ],
)
def test_a_person_gets_the_role_of_their_groups(
    site: Site, subject: str, role: str, organization: str
) -> None:
    visitor = site.signed_in(subject)
    said = plain(visitor.get("/account").expect(200))
    assert f"Role {role} Organization {organization}" in said
    assert ACCOUNTS[subject]["name"] in said
    assert visitor.get("/system").status == (200 if role == "operator" else 404)
    assert visitor.get("/groups/new").status == (403 if role == "viewer" else 200)
    keys = {"label": "x" * 64, "form_token": visitor.form_token("/")}
    allowed = role in {"owner", "operator"}
    assert visitor.post("/organizations/acme/keys", keys).status == (400 if allowed else 403)


def test_the_request_has_pkce_state_and_nonce_and_the_cookie_is_not_for_scripts(site: Site) -> None:
    browser = site.browser()
    answer = browser.portal.get("/sign-in/openid?next=/audit").expect(303)
    query = {name: value[0] for name, value in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert query["response_type"] == "code"
    assert query["code_challenge_method"] == "S256"
    assert query["redirect_uri"] == site.server.url + CALLBACK
    secrets = [query[name] for name in ("state", "nonce", "code_challenge")]
    assert len({*secrets}) == 3
    assert all(len(base64.urlsafe_b64decode(each + "=")) == 32 for each in secrets)
    cookie = cookies_of(answer)["crisper-login"]
    assert (cookie["samesite"], bool(cookie["httponly"]), cookie["max-age"]) == ("Lax", True, "600")
    assert not any(each in cookie.value for each in secrets)


def test_after_the_sign_in_a_person_sees_the_page_that_they_wanted(site: Site) -> None:
    browser = site.browser()
    wanted = browser.portal.get("/audit?type=token.minted").expect(303).headers["Location"]
    page = browser.portal.get(wanted).expect(200).body.decode()
    link = page.partition('href="/sign-in/openid')[2].partition('"')[0].replace("&amp;", "&")
    answer = browser.sign_in("anna", "/sign-in/openid" + link).expect(200)
    assert '<meta http-equiv="refresh" content="0;url=/audit?type=token.minted">' in answer.body.decode()
    session = cookies_of(answer)["crisper-session"]
    assert (session["samesite"], bool(session["httponly"])) == ("Strict", True)
    browser.portal.get("/audit?type=token.minted").expect(200)


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "x"]
)
def test_a_sign_in_never_leads_to_another_site(site: Site, elsewhere: str) -> None:
    browser = site.browser()
    answer = browser.sign_in("anna", f"/sign-in/openid?{urlencode({'next': elsewhere})}").expect(200)
    assert 'content="0;url=/">' in answer.body.decode()
    # Nor does a cookie that someone has changed.
    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    secret = browser.portal.cookies["crisper-login"].partition(".")[0]
    forged = base64.urlsafe_b64encode(elsewhere.encode()).decode()
    browser.portal.cookies["crisper-login"] = f"{secret}.{forged}"
    assert 'content="0;url=/">' in browser.come_back(back).expect(200).body.decode()


def test_a_code_is_good_for_one_session(site: Site) -> None:
    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    kept = dict(browser.portal.cookies)
    browser.come_back(back).expect(200)
    assert not browser.portal.cookies["crisper-login"], "the attempt has ended"
    thief = site.browser()
    site.refused(thief.come_back(back), "state")
    thief.portal.cookies |= kept
    site.refused(thief.come_back(back), "replayed")
    other = site.browser()
    code = parse_qs(urlsplit(back).query)["code"][0]
    mine = parse_qs(urlsplit(other.start()).query)["state"][0]
    before = site.provider.requests.count("/token")
    site.refused(other.come_back(changed(back, state=mine, code=code)), "provider", 503)
    assert site.provider.requests.count("/token") == before + 1, "the provider refused the code"


def test_an_answer_for_another_browser_is_refused(site: Site) -> None:
    """An attacker's own answer does not sign a victim in as the attacker."""
    attacker, victim = site.browser(), site.browser()
    back = attacker.sign_in_at_provider(attacker.start(), "anna")
    victim.start()
    before = len(site.provider.requests)
    site.refused(victim.come_back(back), "state")
    site.refused(site.browser().come_back(back), "state")
    assert len(site.provider.requests) == before, "the code was sent nowhere"


@pytest.mark.parametrize("state", [None, "", "x" * 43, "\udcff"])
def test_a_changed_state_is_refused(site: Site, state: str | None) -> None:
    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    if state == "\udcff":
        site.refused(browser.come_back(changed(back, state=None) + "&state=%ff"), "state")
    else:
        site.refused(browser.come_back(changed(back, state=state)), "state")
    site.refused(browser.come_back(back), "state")


@pytest.mark.parametrize("issuer", [None, "", "https://evil.example", "http://127.0.0.1"])
def test_an_answer_from_another_issuer_is_refused(site: Site, issuer: str | None) -> None:
    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    assert parse_qs(urlsplit(back).query)["iss"] == [site.provider.issuer]
    before = len(site.provider.requests)
    site.refused(browser.come_back(changed(back, iss=issuer)), "issuer")
    assert len(site.provider.requests) == before


def test_a_person_who_cancels_is_not_signed_in(site: Site) -> None:
    browser = site.browser()
    state = parse_qs(urlsplit(browser.start()).query)["state"][0]
    query = {"state": state, "iss": site.provider.issuer, "error": "access_denied"}
    said = site.refused(browser.portal.get(f"{CALLBACK}?{urlencode(query)}"), "denied")
    assert "did not sign you in" in said


def test_the_relay_changes_nothing_by_itself(site: Site) -> None:
    assert tampered(site).expect(200)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "x" * 43}, "another sign-in (nonce)"),
        ({"nonce": None}, "another sign-in (nonce)"),
        ({"iss": "https://evil.example"}, "InvalidIssuerError"),
        ({"aud": "another-client"}, "InvalidAudienceError"),
        ({"aud": [CLIENT_ID, "another-client"], "azp": "another-client"}, "another client (azp)"),
        ({"aud": [CLIENT_ID, "another-client"]}, "another client (azp)"),
        ({"exp": 1}, "ExpiredSignatureError"),
        ({"exp": None}, "MissingRequiredClaimError"),
        ({"iat": 99_999_999_999}, "ImmatureSignatureError"),
        ({"sub": ""}, "subject is not valid"),
        ({"sub": "x" * 256}, "subject is not valid"),
        ({"sub": "a\nb"}, "subject is not valid"),
    ],
    ids=str,
)
def test_an_id_token_with_other_claims_is_refused(site: Site, claims: dict[str, object], why: str) -> None:
    said = site.refused(tampered(site, **claims), "id token")
    assert "The identity provider's answer is not valid" in said
    assert why in site.last_reason()


def test_an_id_token_that_has_just_expired_is_refused(site: Site) -> None:
    site.refused(tampered(site, exp=int(time.time()) - 61, iat=int(time.time()) - 3600), "id token")


def test_an_id_token_of_another_sign_in_is_refused(site: Site) -> None:
    earlier: list[str] = []
    with_token(site, lambda token: earlier.append(token) or token).expect(200)  # type: ignore[func-returns-value]
    site.refused(with_token(site, lambda _: earlier[0]), "id token")


def test_unsigned_id_tokens_and_those_signed_with_the_public_key_are_refused(site: Site) -> None:
    def unsigned(token: str) -> str:
        return jwt.encode(read(token), None, "none", {"kid": "test"})  # type: ignore[arg-type]

    def with_public_key(token: str) -> str:
        head = _segment({"alg": "HS256", "typ": "JWT", "kid": "test"})
        signed = f"{head}.{_segment(read(token))}"
        mac = hmac.digest(site.provider.public_pem, signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def other_signature(token: str) -> str:
        return token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8)

    algorithm = "algorithm that is allowed"
    for forge, why in (
        (unsigned, algorithm),
        (with_public_key, algorithm),
        (other_signature, "InvalidSignatureError"),
        (lambda _: "a.b.c", algorithm),
        (lambda _: 7, "sent no ID token"),
    ):
        site.refused(with_token(site, forge), "id token")
        assert why in site.last_reason()


def _segment(document: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def test_a_person_without_a_role_is_told_so(site: Site) -> None:
    said = site.refused(site.browser().sign_in("nobody"), "no role", 403)
    assert "You are signed in as No <b>Role</b>, but have no role here" in said
    refused = site.server.operator.events(type="portal.refused", limit="1000")[-1]
    assert refused["actor"] == {
        "kind": "person",
        "id": "nobody",
        "name": "No <b>Role</b>",
        "is_operator": False,
    }


def test_signing_out_ends_the_session_on_the_server(site: Site) -> None:
    visitor = site.signed_in("anna")
    kept = dict(visitor.cookies)
    visitor.send("/sign-out", {}, page="/").expect(303)
    visitor.cookies = kept
    assert visitor.get("/").status == 303


def test_another_sign_in_ends_the_browsers_session(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("vera").expect(200)
    earlier = browser.portal.copy()
    browser.sign_in("vera").expect(200)
    assert (earlier.get("/").status, browser.portal.get("/").status) == (303, 200)


def test_a_person_with_several_organizations_chooses_one(site: Site) -> None:
    visitor = site.signed_in("both")
    assert visitor.get("/groups/new").status == 403, "a viewer of acme"
    visitor.get("/organizations/rival").expect(404)
    visitor.send("/account", {"organization": "rival"}).expect(303)
    visitor.get("/organizations/rival").expect(200)
    visitor.get("/organizations/acme").expect(404)
    assert visitor.get("/groups/new").status == 200, "an owner of rival"
    visitor.send("/account", {"organization": "other"}).expect(404)


def test_the_trail_names_the_person(site: Site) -> None:
    owner, operator = site.signed_in("anna"), site.signed_in("olga")
    form = {"label": "by-anna", "scope": "read"}
    owner.send("/organizations/acme/keys", form, page="/").expect(200)
    operator.send("/organizations/acme/keys", {"label": "by-olga"}, page="/").expect(200)
    created = site.server.operator.events(type="api_key.created", organization_name="acme")
    actors = {event["detail"]["name"]: event["actor"] for event in created}
    anna = {"kind": "person", "id": "anna", "name": "Anna Admin", "is_operator": False}
    assert actors["by-anna"] == anna
    assert (actors["by-olga"]["name"], actors["by-olga"]["is_operator"]) == ("Olga Ops", True)
    seen = plain(operator.get("/audit?type=api_key.created").expect(200))
    assert "Olga Ops (olga)" in seen
    by_customer = plain(owner.get("/audit?type=api_key.created").expect(200))
    assert "Anna Admin (anna)" in by_customer
    assert "Olga" not in by_customer
    assert "Olga" not in owner.text("/audit/events.jsonl")
    signed_in = site.server.operator.events(type="portal.signed_in", limit="1000")
    assert anna in [event["actor"] for event in signed_in]


def test_guessed_answers_are_soon_told_to_wait_and_real_ones_are_not(site: Site) -> None:
    browser = site.browser()
    for _ in range(40):
        answer = browser.portal.get(f"{CALLBACK}?state=guess&code=guess")
        if answer.status == 429:
            break
        answer.expect(401)
    assert int(answer.expect(429).headers["Retry-After"]) >= 1
    browser.sign_in("anna").expect(200)


def test_neither_secret_nor_code_nor_tokens_are_in_the_log(site: Site) -> None:
    browser = site.browser()
    back = browser.sign_in_at_provider(browser.start(), "anna")
    browser.come_back(changed(back, code="a-code-of-nobody"))
    log = site.server.log.read_text()
    assert "openid.failed" in log
    assert CLIENT_SECRET not in log
    assert "a-code-of-nobody" not in log
    assert browser.portal.cookies.get("crisper-login", "") == ""


@pytest.mark.full
def test_other_documents_than_the_standards_are_refused(tmp_path: Path) -> None:
    """The provider is asked again after a failure, so that sign-in works once it is mended."""
    port = free_port()
    with OpenIdProvider(tmp_path / "provider", f"http://127.0.0.1:{port}{CALLBACK}") as provider:
        provider.set_accounts(ACCOUNTS)

        def evil(path: str, document: dict[str, Any]) -> Mapping[str, Any]:
            return {**document, "issuer": "https://evil.example"} if "well-known" in path else document

        provider.tamper = evil
        with CrisperServer(tmp_path / "crisper", env=environment(provider), port=port) as server:
            server.operator.create_organization("acme")
            browser = Browser(PortalVisitor(server.url))
            refused = browser.portal.get("/sign-in/openid").expect(503)
            assert "sign in with an API key" in plain(refused)
            assert "names another issuer" in server.log.read_text()
            provider.tamper = None
            wait_until(
                lambda: browser.portal.get("/sign-in/openid").status == 303,
                timeout_s=30,
                what="the provider is asked again",
            )
            PortalVisitor.signed_in(server.url, server.operator_key)


def test_a_removed_role_ends_within_the_sessions_time(tmp_path: Path) -> None:
    """The claims are those of the userinfo endpoint, as providers have them that follow the standard."""
    port = free_port()
    redirect_uri = f"http://127.0.0.1:{port}{CALLBACK}"
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    with OpenIdProvider(tmp_path / "provider", redirect_uri, claims_only_at_userinfo=True) as provider:
        provider.set_accounts(ACCOUNTS)
        env = environment(
            provider,
            CRISPER_OIDC_SESSION_S=str(SHORT_S),
            CRISPER_OIDC_CLIENT_SECRET="",
            CRISPER_OIDC_CLIENT_SECRET_FILE=str(secret),
        )
        with CrisperServer(tmp_path / "crisper", env=env, port=port) as server:
            server.operator.create_organization("acme")
            browser = Browser(PortalVisitor(server.url))
            browser.sign_in("anna").expect(200)
            assert provider.requests[-1] == "/me"
            provider.set_accounts({**ACCOUNTS, "anna": {"name": "Anna Admin", "groups": []}})
            wait_until(
                lambda: browser.portal.get("/").status == 303,
                timeout_s=SHORT_S + 20,
                what="the session ends by itself",
            )
            assert "have no role here" in plain(browser.sign_in("anna").expect(403))
            assert browser.portal.get("/").status == 303

            def another(path: str, document: dict[str, Any]) -> Mapping[str, Any]:
                return {**document, "sub": "olga", "groups": ["ops"]} if path == "/me" else document

            provider.tamper = another
            browser.sign_in("anna").expect(401)
