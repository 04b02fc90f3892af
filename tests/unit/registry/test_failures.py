"""docs/failures.md names every sentence that a failed import can end with."""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from registry.errors import (
    AuthenticationFailedError,
    ImageTooLargeError,
    ImportFailedError,
    PullFailedError,
    StoreFailedError,
)
from registry.model.remedies import for_operator
from registry.upstream import connection_errors
from tests.support.failures import DOCUMENT, GAP, STEP, documented, quotes

ROOT = Path(__file__).parents[3]
ROOMS = ("ephemeral", "imports", "oci", "upstream")
#: Whose first argument a customer reads: the failures themselves, and what is quoted within their sentences.
ERRORS = {
    "AuthenticationFailedError",
    "PullFailedError",
    "UpstreamUnavailableError",
    "ImageTooLargeError",
    "StoreFailedError",
    "StoreUnavailableError",
    "DocumentError",
    "EgressRefusedError",
    "ReferenceFormatError",
}
#: These fail no import: attachments are left behind, layouts and webhooks have customers of their own.
ELSEWHERE = {"attachments.py", "layout.py", "hooks.py"}


def sentences(errors: Collection[str] = ERRORS) -> Iterator[tuple[str, str]]:
    """Yield every sentence of these errors with its place; what is only known at run time is a gap."""
    for path in sorted(path for room in ROOMS for path in (ROOT / "registry" / room).rglob("*.py")):
        if path.name in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors:
                text = _template(node.args[0])
                if any(character.isalpha() for character in text):
                    yield text, f"{path.relative_to(ROOT)}:{node.lineno}"
    for ending in (*connection_errors.PERMANENT.values(), *connection_errors.TRANSIENT.values()):
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


#: What a customer reads as a whole; the other errors are quoted within these.
WHOLE = {"AuthenticationFailedError", "PullFailedError", "UpstreamUnavailableError", "ImageTooLargeError"}


def test_every_failure_says_what_to_do_next() -> None:
    without = [
        f"{place}: {text}"
        for text, place in sentences(WHOLE | {"StoreFailedError", "StoreUnavailableError"})
        if "could not be erased yet" not in text  # fails no import
        and not text.endswith(GAP)
        and not text.startswith(f"{GAP}; ")
        and not STEP.search(text)
    ]
    assert without == []


def test_no_failure_gives_a_customer_the_operators_setting() -> None:
    """The document has the operator's steps; a customer can only ask."""
    assert [text for text, _ in sentences() if "CRISPER_" in text or "--insecure" in text] == []


def test_every_request_to_the_operator_has_its_operators_form() -> None:
    asked = {match[0] for text, _ in sentences() for match in re.finditer(r"ask the operator [^,:]+", text)}
    assert len(asked) >= 5
    assert [each for each in asked if for_operator(each) == each] == []


def test_the_guides_of_registries_quote_the_documents_sentences() -> None:
    known = [each for of_reason in documented().values() for each in of_reason]
    quoted = [
        (path.name, part)
        for path in (ROOT / "docs" / "registries").glob("*.md")
        for row in _error_messages(path.read_text())
        for part in re.split(r", (?:though they are right|with .+ given)$|, (?=[a-z]+ )", row)
        if part
    ]
    assert len(quoted) > 25
    missing = [
        f"{name}: {part}" for name, part in quoted if not any(quotes(part, sentence) for sentence in known)
    ]
    assert missing == ["google.md: must be a service account's key file"]  # of the request, not of an import


def _error_messages(guide: str) -> Iterator[str]:
    """Yield the first column of the tables of error messages."""
    for table in guide.split("| error message |")[1:]:
        for line in table.splitlines()[2:]:
            if not line.startswith("| "):
                break
            yield line.removeprefix("| ").split(" | ")[0].removesuffix(" |")


def test_the_document_names_every_reason() -> None:
    document = DOCUMENT.read_text()
    reasons = (AuthenticationFailedError, PullFailedError, ImageTooLargeError, StoreFailedError)
    assert {kind.reason for kind in reasons} == {
        kind.reason for kind in ImportFailedError.__subclasses__() if "reason" in vars(kind)
    }
    for kind in reasons:
        assert f"\n## {kind.reason.capitalize()}\n" in document
