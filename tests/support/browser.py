"""Debian's Chromium, driven by Playwright, and axe-core, which looks at a page as a screen reader's user."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.built_programs import axe_core

CHROMIUM = "/usr/bin/chromium"
_AXE = """() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',
    'best-practice']}).then(found => found.violations)"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser; without its sandbox, which does not work for root."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, url: str, key: str) -> None:
    """Sign in to the portal, by the form."""
    page.goto(f"{url}/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Container groups").wait_for()


def faults(page: Page) -> list[str]:
    """Return what axe-core finds on a page, as `impact rule: where`.

    Its context has to bypass the page's policy, which lets no foreign script in.
    """
    page.add_script_tag(path=axe_core())
    found: list[dict[str, Any]] = page.evaluate(_AXE)
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
