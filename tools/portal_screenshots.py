"""Writes docs/screenshots/: every page of the portal, wide and narrow, light; two of them dark.

Usage: python -m tools.portal_screenshots [FOLDER]
"""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page

from tests.support import images, processes
from tests.support.browser import chromium, sign_in
from tests.support.crisper import CrisperServer
from tests.support.http import basic, request
from tests.support.slow_link import SlowLink
from tests.support.upstream import PASSWORD, USERNAME, Upstream

SCREENSHOTS = Path(__file__).parents[1] / "docs" / "screenshots"
DIFFUSION = "{}/acme/random:small"
WIDTHS = (1280, 390)
SLOW_BYTES_PER_S = 150_000
HISTORY = (
    ("egress", "", 400_000_000_000),
    ("egress_group", "default/mandelbrot", 90_000_000_000),
    ("egress_group", "default/diffusion", 300_000_000_000),
    ("egress_node", "node-7", 7_000_000_000),
    ("import", "stored", 9),
    ("import", "failed to authenticate", 2),
    ("redeemed", "", 120),
    ("refused", "wrong_node", 5),
    ("pull_time", "3", 60),
    ("pull_time", "4", 50),
    ("start_time", "4", 90),
    ("stored_time", "2", 5),
    ("stored_time", "3", 3),
    ("import_time", "2", 6),
)


def take_all(
    folder: Path, server: CrisperServer, upstream: Upstream, link: SlowLink, browser: Browser
) -> None:
    """Walk through the portal and picture each page."""
    operator = server.operator
    organization = operator.create_organization("acme")
    customer = server.customer(organization)
    node = operator.create_node("node-7")
    spare = operator.create_node("node-12")
    access = upstream.login
    for image, name in ((upstream.reference(images.runnable()), "mandelbrot"), (DIFFUSION, "diffusion")):
        customer.create_group(image.format(upstream.host), name=name, **access)
        customer.wait_settled(name)
    customer.create_group(upstream.reference(images.runnable(), "9.9"), name="typo", **access)
    customer.create_group(
        upstream.reference(images.runnable()), name="locked", username="acme", password="wrong"
    )
    customer.wait_settled("typo")
    customer.wait_settled("locked")
    token = operator.mint(organization, "mandelbrot", node)
    realm = f"{server.url}/token?service=crisper&scope=repository:acme/default/mandelbrot:pull"
    for _ in range(2):
        answer = request(
            "GET", realm, headers={"Authorization": basic(node.node_id, token.password(node))}
        ).expect(200)
    request("GET", realm, headers={"Authorization": basic("node-12", token.password(node))}).expect(401)
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    request(
        "GET", f"{server.url}/v2/acme/default/mandelbrot/manifests/{token.digest}", headers=bearer
    ).expect(200)

    operator.mint(organization, "mandelbrot", spare)
    customer.patch(
        "mandelbrot",
        {"container": {"command": ["serve", "--port=8000"], "environment_variables": {"API_TOKEN": "x"}}},
    )
    customer.create_group(f"{link.host}/acme/random:large", name="whisper", **access)
    _add_history(server)
    for width in WIDTHS:
        _take(folder, browser, server, upstream, width)
    _take_dark(folder, browser, server)


def _add_history(server: CrisperServer) -> None:
    """Add figures of the last weeks, which the charts show."""
    today, random = datetime.now(UTC).date(), Random(7)  # noqa: S311 (an example)
    rows = []
    for age in range(1, 28):
        day = (today - timedelta(days=age)).isoformat()
        for kind, label, most in HISTORY:
            rows.append(("acme", kind, day, label, random.randint(0, most)))
    with closing(sqlite3.connect(server.data_dir / "catalog.db")) as catalog, catalog:
        catalog.executemany("INSERT INTO daily_figures VALUES (?, ?, ?, ?, ?)", rows)


def _take(folder: Path, browser: Browser, server: CrisperServer, upstream: Upstream, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, locale="en-GB")
    page = context.new_page()

    def picture(name: str) -> None:
        _picture(page, folder / f"{name}-{width}.png")

    page.goto(f"{server.url}/sign-in")
    picture("sign-in")
    sign_in(page, server.url, server.operator_key)
    page.get_by_text("of 8 layers").wait_for()
    picture("groups")
    page.goto(f"{server.url}/groups/acme/default/whisper")
    page.get_by_text("of 8 layers").wait_for()
    picture("group-importing")
    page.goto(f"{server.url}/groups/new")
    page.get_by_label("Image", exact=True).press_sequentially("ghcr.io/acme/mandelbrot:1.4")
    page.get_by_label("The image is private").check()
    page.get_by_label("Personal access token").wait_for()
    page.get_by_label("Name").fill("mandelbrot")
    picture("new-group")
    page.get_by_role("button", name="Create and import").click()
    page.get_by_role("alert").wait_for()
    picture("new-group-refused")
    for group in ("mandelbrot", "typo", "locked"):
        page.goto(f"{server.url}/groups/acme/default/{group}")
        picture({"mandelbrot": "group", "typo": "group-failed"}.get(group, "group-refused"))
    _picture_changes(page, server, upstream, picture)
    page.goto(f"{server.url}/groups/acme/default/mandelbrot/mint")
    picture("mint")
    page.get_by_role("button", name="Mint").click()
    page.get_by_role("button", name="Copy").first.wait_for()
    picture("minted")
    for path in ("activity", "audit", "system", "organizations", "nodes"):
        page.goto(f"{server.url}/{path}")
        picture(path)
    page.goto(f"{server.url}/organizations/acme")
    picture("organization")
    page.goto(f"{server.url}/nodes/node-7")
    picture("node")
    page.goto(f"{server.url}/groups/acme/default/nothing")
    picture("not-found")
    context.close()


def _picture_changes(
    page: Page, server: CrisperServer, upstream: Upstream, picture: Callable[[str], None]
) -> None:
    """Picture the forms that change the group `mandelbrot`."""
    group = f"{server.url}/groups/acme/default/mandelbrot"
    page.goto(f"{group}/edit?values=shown")
    picture("edit-group")
    page.goto(f"{group}/delete")
    picture("delete-group")
    page.goto(f"{group}/image")
    page.get_by_label("User name").fill(USERNAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Image", exact=True).fill(upstream.reference(images.runnable()))
    page.get_by_role("button", name="Check image and credentials").click()
    page.get_by_text("This image can be imported.").wait_for()
    picture("new-version")


def _take_dark(folder: Path, browser: Browser, server: CrisperServer) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    page = context.new_page()
    sign_in(page, server.url, server.operator_key)
    _picture(page, folder / "groups-dark-1280.png")
    page.goto(f"{server.url}/activity")
    _picture(page, folder / "activity-dark-1280.png")
    page.goto(f"{server.url}/groups/acme/default/typo")
    _picture(page, folder / "group-failed-dark-1280.png")
    context.close()


def _picture(page: Page, path: Path) -> None:
    page.screenshot(path=path, full_page=True, animations="disabled")


def run(folder: Path) -> None:
    """Start everything that the pictures show."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as scratch,
        Upstream(Path(scratch) / "upstream") as upstream,
        SlowLink(upstream.port, SLOW_BYTES_PER_S) as link,
    ):
        upstream.push(images.runnable())
        upstream.push(images.random_layers(), "large")
        upstream.push(images.random_layers(6, 700_000), "small")
        insecure = [upstream.host, link.host]
        with (
            CrisperServer(Path(scratch) / "crisper", insecure_registries=insecure) as server,
            chromium() as browser,
        ):
            take_all(folder, server, upstream, link, browser)
    pictures = [str(path) for path in sorted(folder.glob("*.png"))]
    processes.run(
        ["pngquant", "--force", "--strip", "--ext", ".png", "--quality", "80-100", *pictures]
    ).check()


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else SCREENSHOTS)
