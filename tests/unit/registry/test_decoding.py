"""Only registry/api/http/bodies.py reads request bodies; nothing decodes a body by its sender's charset."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BODIES = ROOT / "registry" / "api" / "http" / "bodies.py"
SOURCES = [path for part in ("registry", "auth", "storage") for path in sorted((ROOT / part).rglob("*.py"))]
#: aiohttp methods, called without arguments, that decode by the charset of the Content-Type.
DECODING = frozenset({"json", "multipart", "post", "text"})
#: What reads a request's body, or parses its Content-Type with the codec that it names.
OF_REQUEST = DECODING | {"charset", "clone", "content", "content_type", "read"}


def findings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=[]) if name in DECODING:
                yield f"{node.lineno}: .{name}()"
            case ast.Attribute(value=ast.Name(id="request"), attr=name) if name in OF_REQUEST:
                yield f"{node.lineno}: request.{name}"
            case ast.Attribute(attr="charset" | "content_type" | "get_encoding" as name):
                yield f"{node.lineno}: .{name}"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path != BODIES], ids=lambda path: str(path.name)
)
def test_bodies_are_read_in_one_module(path: Path) -> None:
    assert list(findings(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    ["request.post()", "request.content_type", "request.content.read()", "response.text()", "answer.json()"],
)
def test_what_decodes_is_found(line: str) -> None:
    assert list(findings(line))


def test_the_one_module_decodes_by_no_charset_either() -> None:
    found = [finding.partition(": ")[2] for finding in findings(BODIES.read_text(encoding="utf-8"))]
    assert found == ["request.content"]
