"""Every promise of the threat model names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_each_promise_names_a_test() -> None:
    table = TEXT.partition("| promise | test |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) > 20
    assert [row for row in table if not NAMED.search(row.rpartition(" | ")[2])] == []


def test_each_named_test_exists() -> None:
    missing = [(path, name) for path, name in NAMED.findall(TEXT) if not _exists(ROOT / path, name)]
    assert missing == []


def test_each_hostile_test_is_named() -> None:
    named = {(path, name) for path, name in NAMED.findall(TEXT)}
    written = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / "tests" / "e2e" / "hostile").glob("test_*.py")
        for name in _tests(path)
    }
    assert written - named == set()


def _exists(path: Path, name: str) -> bool:
    return path.is_file() and (name in _tests(path) if name else bool(_tests(path)))


def _tests(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return {node.name for node in nodes if node.name.startswith("test_")}
