"""The documentation: the reference is the code's, the site builds, and fetches nothing from anybody else."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs import generate
from registry.config import Settings
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


def test_the_site_builds_without_a_broken_link_and_asks_no_third_party(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    run([*argv, "--config-file", str(ROOT / "mkdocs.yml")], env={"NO_MKDOCS_2_WARNING": "1"}).check()
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html"} <= {page.name for page in pages}
    for page in pages:
        found = _Fetches()
        found.feed(page.read_text())
        assert [url for url in found.urls if urlsplit(url).netloc] == [], page
        assert 'class="mermaid"' not in page.read_text(), "the theme would fetch what draws it"
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", style.read_text()), style
