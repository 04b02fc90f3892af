"""The documentation: the reference is the code's, the site builds, and fetches nothing from anybody else."""

import re
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mkdocs.config import load_config

from docs import generate
from docs.hooks import on_config
from registry.config import Settings
from tests.support.browser import chromium
from tests.support.processes import run

ROOT = Path(__file__).parents[3]
FETCHING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
PAGES_THAT_ONLY_NAME = {"canonical"}


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_reference_says_what_the_code_says(name: str) -> None:
    written = (generate.REFERENCE / name).read_text()
    assert written == generate.PAGES[name](), "run make reference"


def test_every_setting_is_described() -> None:
    documented = re.findall(r"^        (\w+): ", Settings.__doc__ or "", re.MULTILINE)
    assert set(Settings.model_fields) == set(documented)


class _Fetches(HTMLParser):
    """Collects what a browser would fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHING and given.get("rel") not in PAGES_THAT_ONLY_NAME:
            self.urls.append(given.get(FETCHING[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; broken links and anchors are errors."""
    folder = tmp_path_factory.mktemp("site")
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    run([*argv, "--config-file", str(ROOT / "mkdocs.yml")], env={"NO_MKDOCS_2_WARNING": "1"}).check()
    return folder


def test_the_site_builds_without_a_broken_link_and_asks_no_third_party(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {"index.html", "tutorial.html"} <= {page.name for page in pages}
    for page in pages:
        found = _Fetches()
        found.feed(page.read_text())
        assert [url for url in found.urls if urlsplit(url).netloc] == [], page
        assert 'class="mermaid"' not in page.read_text(), "the theme would fetch what draws it"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", style.read_text()), style


def _pages(nav: object) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    entries = nav.values() if isinstance(nav, dict) else nav
    assert isinstance(entries, Iterable)
    return {page for entry in entries for page in _pages(entry)}


def test_every_page_is_in_the_navigation() -> None:
    config = load_config(str(ROOT / "mkdocs.yml"))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert _pages(on_config(config)["nav"]) == pages


def test_search_works_from_a_folder(site: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto((site / "how-to" / "docker.html").as_uri())
        page.get_by_role("textbox", name="Search").fill("redemption")
        page.locator(".md-search-result__link").first.wait_for()
        assert page.locator(".md-search-result__link", has_text="Pull tokens").count()
