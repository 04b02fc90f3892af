"""People in a real browser: from the identity provider, another site, to the page that they wanted."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.support.browser import chromium, faults
from tests.support.crisper import CrisperServer
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from tests.support.processes import free_port

PATIENCE_MS = 60_000
PAGES = ("/account", "/audit", "/organizations/acme")
ROLES = {"acme-devs": "member@acme", "rival-viewers": "viewer@rival"}


@pytest.mark.full
def test_a_person_signs_in_at_another_site_chooses_an_organization_and_signs_out(own_folder: Path) -> None:
    port = free_port()
    redirect_uri = f"http://127.0.0.1:{port}/sign-in/openid/callback"
    with OpenIdProvider(own_folder / "provider", redirect_uri, host="localhost") as provider:
        groups = {"groups": ["acme-devs", "rival-viewers"]}
        provider.set_accounts({"dan": {"name": "Dan Dev", **groups}})
        env = {
            "CRISPER_OIDC_ISSUER": provider.issuer,
            "CRISPER_OIDC_CLIENT_ID": CLIENT_ID,
            "CRISPER_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "CRISPER_OIDC_SCOPES": "openid profile groups",
            "CRISPER_OIDC_ROLES": json.dumps({"claim": "groups", "roles": ROLES}),
        }
        with CrisperServer(own_folder / "crisper", env=env, port=port) as server, chromium() as browser:
            for name in ("acme", "rival"):
                server.operator.create_organization(name)
            context = browser.new_context(viewport={"width": 390, "height": 800})
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.goto(f"{server.url}/audit")
            page.get_by_role("link", name="Sign in at localhost").click()
            page.get_by_placeholder("Enter any login").fill("dan")
            page.get_by_placeholder("and password").fill("any")
            page.get_by_role("button", name="Sign-in").click()
            page.get_by_role("button", name="Continue").click()
            expect(page).to_have_url(f"{server.url}/audit", timeout=PATIENCE_MS)
            expect(page.get_by_role("heading", name="Audit trail")).to_be_visible()

            page.get_by_role("link", name="Dan Dev, acme").click()
            assert_accessible(browser, server.url, context)
            expect(page.locator("dl")).to_contain_text("member")
            page.get_by_role("button", name="Act in rival").click()
            expect(page.get_by_role("link", name="Dan Dev, rival")).to_be_visible()
            expect(page.get_by_role("link", name="New group")).to_have_count(0)
            page.goto(f"{server.url}/account")
            expect(page.locator("dl")).to_contain_text("viewer")
            page.get_by_role("button", name="Sign out").click()
            expect(page).to_have_url(re.compile("/sign-in$"))
            page.goto(f"{server.url}/account")
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            context.close()


def assert_accessible(browser: Browser, url: str, context: BrowserContext) -> None:
    """Check the pages in contexts that bypass the policy, which lets no foreign script in."""
    signed_in = browser.new_context(bypass_csp=True, storage_state=context.storage_state())
    stranger = browser.new_context(bypass_csp=True)
    for where, paths in ((signed_in, PAGES), (stranger, ("/sign-in", "/sign-in/openid/callback"))):
        for scheme in ("light", "dark"):
            page = where.new_page()
            page.emulate_media(color_scheme=scheme)
            for path in paths:
                page.goto(url + path)
                assert faults(page) == [], (path, scheme)
        where.close()
