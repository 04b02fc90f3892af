"""docs/failures.md names every sentence that a failed import can end with."""

import ast
from collections.abc import Iterator
from pathlib import Path

from registry.errors import (
    AuthenticationFailedError,
    ImageTooLargeError,
    ImportFailedError,
    PullFailedError,
    StoreFailedError,
)
from registry.upstream import transport

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "failures.md"
ROOMS = ("ephemeral", "imports", "oci", "upstream")
#: Whose first argument a customer reads: the failures themselves, and what is quoted within their sentences.
ERRORS = {
    "AuthenticationFailedError",
    "PullFailedError",
    "UpstreamUnavailableError",
    "ImageTooLargeError",
    "StoreFailedError",
    "DocumentError",
    "EgressRefusedError",
    "ReferenceFormatError",
}
#: These fail no import: attachments are left behind, layouts and webhooks have customers of their own.
ELSEWHERE = {"attachments.py", "layout.py", "hooks.py"}
GAP = "…"


def sentences() -> Iterator[tuple[str, str]]:
    """Yield every sentence with its place; what is only known at run time is a gap."""
    for path in sorted(path for room in ROOMS for path in (ROOT / "registry" / room).rglob("*.py")):
        if path.name in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                text = _template(node.args[0])
                if any(character.isalpha() for character in text):
                    yield text, f"{path.relative_to(ROOT)}:{node.lineno}"
    for ending in (*transport._PERMANENT.values(), *transport._TRANSIENT.values()):
        yield f"{GAP} {ending}", "registry/upstream/transport.py"


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    return GAP


def _joined(text: str) -> str:
    return " ".join(text.split())


def test_every_room_is_there() -> None:
    assert [room for room in ROOMS if not (ROOT / "registry" / room).is_dir()] == []


def test_the_document_names_every_sentence() -> None:
    document = _joined(DOCUMENT.read_text())
    missing = [f"{place}: {text}" for text, place in sentences() if _joined(text) not in document]
    assert missing == []


def test_the_document_names_every_reason() -> None:
    document = DOCUMENT.read_text()
    reasons = (AuthenticationFailedError, PullFailedError, ImageTooLargeError, StoreFailedError)
    assert {kind.reason for kind in reasons} == {
        kind.reason for kind in ImportFailedError.__subclasses__() if "reason" in vars(kind)
    }
    for kind in reasons:
        assert f"\n## {kind.reason.capitalize()}\n" in document
