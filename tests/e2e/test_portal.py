"""The portal in a real browser, from signing in to a pull that its own command makes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium, faults, sign_in
from tests.support.crisper import CrisperServer
from tests.support.processes import run, wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import PASSWORD, USERNAME, Upstream

SLOW: Final = 400_000
FAST: Final = 50_000_000
PATIENCE_MS: Final = 60_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def link(upstream: Upstream) -> Iterator[SlowLink]:
    with SlowLink(upstream.port, SLOW) as link:
        yield link


@pytest.fixture(scope="module")
def server(workdir: Path, link: SlowLink) -> Iterator[CrisperServer]:
    with CrisperServer(workdir / "portal", insecure_registries=[link.host]) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose every complaint fails the test; its policy is checked over HTTP."""
    complaints: list[str] = []
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    yield page
    context.close()
    assert complaints == []


def fill_in(page: Page, image: str, name: str, password: str) -> None:
    page.get_by_role("link", name="Groups").click()
    page.get_by_role("link", name="New group").click()
    page.get_by_label("Image", exact=True).fill(image)
    expect(page.locator("#reading")).to_contain_text("acme/random")
    page.get_by_label("The image is private").check()
    page.get_by_label("User name").fill(USERNAME)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Create and import").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def look_well(page: Page) -> None:
    assert faults(page) == [], page.url


def test_an_operator_goes_from_an_image_to_a_pull_in_the_audit_trail(
    page: Page, server: CrisperServer, link: SlowLink, own_folder: Path
) -> None:
    server.operator.create_organization("acme")
    node = server.operator.create_node("node-7")
    image = f"{link.host}/acme/random:latest"
    page.goto(server.url)
    look_well(page)
    sign_in(page, server.url, server.operator_key)
    look_well(page)

    fill_in(page, image, "slow", PASSWORD)
    expect(page.get_by_text("of 8 layers")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_visible()
    look_well(page)
    link.bytes_per_s = FAST
    expect(page.locator(".current-status .status")).to_have_text("stopped")
    expect(page.get_by_role("status")).to_have_text("slow is stopped")
    expect(page.get_by_role("region", name="Layers").get_by_role("row")).to_have_count(9)
    expect(page.get_by_role("row", name="v1")).to_contain_text("served")
    expect(page.get_by_text("pulling", exact=False).last).to_contain_text("8 layers")
    look_well(page)

    page.get_by_role("link", name="Mint a pull token").click()
    look_well(page)
    page.get_by_role("button", name="Mint").click()
    look_well(page)
    page.get_by_role("radio", name="podman").check()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    run(["sh", "-ec", command], env={**podman(own_folder), "CRISPER_NODE_SECRET": node.secret}).check()
    expect(page.locator("#live")).to_contain_text("node-7 has the complete image")
    expect(page).to_have_url(re.compile("/tokens/"))
    page.reload()  # mints no second token, and shows the first one no more
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    expect(page.get_by_role("row", name="Layer 1")).to_contain_text("complete")
    expect(page.locator("#live")).to_contain_text("node-7 has the complete image")
    assert len(server.operator.events(type="token.minted")) == 1

    page.get_by_role("link", name="Events of this token").click()
    expect(page.locator("#live")).to_contain_text("The node redeemed its token and may pull")
    look_well(page)
    page.get_by_role("link", name="Groups").click()
    page.get_by_role("link", name="slow").click()
    expect(page.get_by_role("row", name="node-7")).to_contain_text("creating")
    look_well(page)
    page.get_by_role("link", name="System").click()
    expect(page.get_by_role("row", name="acme")).to_contain_text("25")
    look_well(page)
    look_at_activity(page)


def look_at_activity(page: Page) -> None:
    page.get_by_role("link", name="Activity").click()
    wait_until(lambda: is_drawn(page, "Data sent to nodes"), timeout_s=40, what="the bytes are counted")
    look_well(page)
    page.get_by_text("Numbers").first.click()
    expect(page.get_by_role("region", name="Data sent to nodes, numbers")).to_be_visible()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        look_well(page)


def is_drawn(page: Page, chart: str) -> bool:
    page.reload()
    return page.get_by_role("img", name=chart).is_visible()


def podman(folder: Path) -> dict[str, str]:
    """Give podman storage of its own, by its environment: the command stays as it was copied."""
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    return {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        "XDG_RUNTIME_DIR": str(folder),
        "TMPDIR": str(folder),
    }


def test_a_customer_is_told_on_a_narrow_dark_screen_why_an_import_failed(
    page: Page, server: CrisperServer, link: SlowLink
) -> None:
    organization = server.operator.create_organization()
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    sign_in(page, server.url, organization.api_key)
    link.bytes_per_s = FAST
    fill_in(page, f"{link.host}/acme/random:latest", "locked", "wrong")
    expect(page.get_by_role("heading", name="Failed to authenticate")).to_be_visible()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible()
    look_well(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.goto(f"{server.url}/groups/new")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    look_well(page)
    page.get_by_role("link", name="Audit trail").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_role("link", name="System")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_focused()


def test_an_operator_creates_an_organization_and_a_node_whose_secrets_are_shown_once(
    page: Page, server: CrisperServer
) -> None:
    sign_in(page, server.url, server.operator_key)
    page.get_by_role("link", name="Organizations").click()
    page.get_by_label("Name", exact=True).fill("globex")
    look_well(page)
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#secret")).to_contain_text("crisper_key_")
    look_well(page)
    page.reload()
    expect(page.get_by_role("heading", name="globex")).to_be_visible()
    expect(page.locator("#secret")).to_have_count(0)
    look_well(page)
    page.get_by_role("link", name="Revoke").click()
    look_well(page)
    page.get_by_role("link", name="Nodes").click()
    page.get_by_label("Node id").fill("node-9")
    look_well(page)
    page.get_by_role("button", name="Create").click()
    look_well(page)
    page.reload()
    expect(page.get_by_role("heading", name="node-9")).to_be_visible()
    look_well(page)
    page.get_by_role("link", name="Strike off").click()
    look_well(page)


def test_a_customer_checks_edits_and_deletes_over_an_expired_session(
    page: Page, server: CrisperServer, link: SlowLink
) -> None:
    organization = server.operator.create_organization()
    customer = server.customer(organization)
    link.bytes_per_s = FAST
    image = f"{link.host}/acme/random:latest"
    sign_in(page, server.url, organization.api_key)
    for name in ("one", "two"):
        customer.create_group(image, name=name, username=USERNAME, password=PASSWORD)
        customer.wait_settled(name)

    page.goto(f"{server.url}/groups/{organization.name}/default/one/image")
    expect(page.get_by_label("The image is private")).to_be_checked()
    page.get_by_label("User name").fill(USERNAME)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Check image and credentials").click()
    expect(page.locator("#checked")).to_contain_text("Failed to authenticate")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Check image and credentials").click()
    expect(page.locator("#checked")).to_contain_text("This image can be imported.")
    look_well(page)

    page.goto(f"{server.url}/groups/{organization.name}/default/one/edit?values=shown")
    page.get_by_label("Replicas").fill("5")
    page.get_by_label("Environment").fill('MODE=fast\nTEXT="a\\nb"')
    look_well(page)
    page.context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    look_well(page)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Sign in in another tab").click()
    opened.value.get_by_label("API key").fill(organization.api_key)
    opened.value.get_by_role("button", name="Sign in").click()
    expect(opened.value.get_by_role("heading", name="Edit one")).to_be_visible()
    page.get_by_role("button", name="Return to the form").click()
    expect(page.get_by_label("Replicas")).to_have_value("5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="one")).to_be_visible()
    group = customer.group("one")
    assert group["replicas"] == 5
    assert group["container"]["environment_variables"] == {"MODE": "fast", "TEXT": "a\nb"}

    page.goto(server.url)
    expect(page.locator("time").first).to_have_attribute("title", re.compile("UTC$"))
    expect(page.locator("time").first).to_have_text(
        re.compile(r"^(just now|\d+ minutes? ago), \d\d:\d\d:\d\d$")
    )
    expect(page.get_by_role("button", name="Delete selected groups")).to_be_hidden()
    page.get_by_role("checkbox", name=f"Select {organization.name}/default/two").check()
    page.evaluate("htmx.ajax('GET', '/', {target: '#live', swap: 'outerHTML'})")
    page.wait_for_function("document.querySelector('#live input:checked')")
    page.get_by_role("button", name="Delete selected groups").click()
    look_well(page)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="one")).to_be_visible()
    expect(page.get_by_role("link", name="two")).to_have_count(0)


def test_a_page_says_while_the_server_is_away(browser: Browser, server: CrisperServer) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    sign_in(page, server.url, server.operator_key)
    page.get_by_role("link", name="Audit trail").click()
    expect(page.locator("#stale")).to_be_hidden()
    context.set_offline(True)
    expect(page.locator("#stale")).to_contain_text("The server does not answer. You see the state of")
    context.set_offline(False)
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.locator("#announcement")).to_have_text("The page is up to date again.")
    context.close()
