"""Build hooks of the documentation site (mkdocs.yml)."""

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?:\.\./)*((?:deploy|bench|tests)[^)]*)\)")
_FOLDERS = ("registries", "adr")


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 (the builder's own objects)
    """Replace links to files outside docs/ with their paths: the site does not contain these files."""
    return _OUTSIDE.sub(
        lambda link: f"{link[1]} (`{link[2]}`)" if link[1] != link[2] else f"`{link[2]}`", markdown
    )


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if text == path else f"{text} (`{path}`)"


def _index_first(page: Path) -> tuple[bool, str]:
    return page.name != "README.md", page.name


def on_config(config: Any, **_: Any) -> Any:  # noqa: ANN401 (the builder's own objects)
    """Replace each folder in the navigation with the list of its pages, the index first."""
    docs = Path(config["docs_dir"])

    def expanded(entry: Any) -> Any:  # noqa: ANN401
        if isinstance(entry, list):
            return [expanded(each) for each in entry]
        if isinstance(entry, dict):
            return {title: expanded(each) for title, each in entry.items()}
        if entry.strip("/") in _FOLDERS:
            pages = sorted((docs / entry).glob("*.md"), key=_index_first)
            return [str(page.relative_to(docs)) for page in pages]
        return entry

    config["nav"] = expanded(config["nav"])
    return config
