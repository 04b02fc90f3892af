"""Our OpenAPI document beside SaladCloud's reference: each difference has its reason in docs/public-api.md.

`tests/data/saladcloud-reference.json` lists the operations, statuses and field names of SaladCloud's
reference, version 0.9.0-alpha.17; `!` marks a required field. `pytest -s` prints all differences.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from registry.api.openapi import document
from tests.unit.registry.api.test_openapi import apps

ROOT = Path(__file__).parents[4]
REFERENCE = json.loads((ROOT / "tests" / "data" / "saladcloud-reference.json").read_text())
PREFIX = "/api/public"

Fields = dict[str, bool]
"""Paths of fields, and whether each is required in its object."""


def reference_fields(name: str, path: str = "") -> Iterator[tuple[str, bool]]:
    while name.startswith("[]"):
        name, path = name.removeprefix("[]"), f"{path}[]"
    for field, inner in REFERENCE["objects"].get(name, {}).items():
        place = f"{path}.{field.removesuffix('!')}".removeprefix(".")
        yield place, field.endswith("!")
        yield from reference_fields(inner, place)


def our_fields(schema: Any, schemas: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:  # noqa: ANN401
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for part in schema.get("anyOf", []):
        yield from our_fields(part, schemas, path)
    if "items" in schema:
        yield from our_fields(schema["items"], schemas, f"{path}[]")
    for field, inner in schema.get("properties", {}).items():
        place = f"{path}.{field}".removeprefix(".")
        yield place, field in schema.get("required", [])
        yield from our_fields(inner, schemas, place)


def differences() -> Iterator[tuple[str, str]]:
    """Return the id of each operation that differs, and how."""
    ours = document(apps())
    schemas = ours["components"]["schemas"]
    found = {
        told["operationId"]: (f"{method.upper()} {path.removeprefix(PREFIX)}", told)
        for path, methods in ours["paths"].items()
        if path.startswith(PREFIX)
        for method, told in methods.items()
    }
    for name in found.keys() - REFERENCE["operations"].keys():
        yield name, "operation added"
    for name, wanted in REFERENCE["operations"].items():
        if name not in found:
            yield name, "operation missing"
            continue
        address, told = found[name]
        if address != wanted["address"]:
            yield name, f"address {address}"
        statuses = {int(status) for status in told["responses"]}
        yield from ((name, f"status {status} added") for status in statuses - {*wanted["statuses"]})
        yield from ((name, f"status {status} missing") for status in {*wanted["statuses"]} - statuses)
        query = {parameter["name"] for parameter in told["parameters"] if parameter["in"] == "query"}
        yield from ((name, f"query {each} added") for each in query - {*wanted.get("query", ())})
        yield from ((name, f"query {each} missing") for each in {*wanted.get("query", ())} - query)
        success = told["responses"].get(str(min(statuses)), {})
        for part, node in (("request", told.get("requestBody", {})), ("response", success)):
            content = next(iter(node.get("content", {}).values()), None)
            is_problem = "application/problem+json" in node.get("content", {})
            mine: Fields = dict(our_fields(content["schema"], schemas)) if content and not is_problem else {}
            theirs: Fields = dict(reference_fields(wanted.get(part, "")))
            for field in mine.keys() | theirs.keys():
                if field not in theirs:
                    yield name, f"{part} {field} added"
                elif field not in mine:
                    yield name, f"{part} {field} missing"
                elif mine[field] != theirs[field]:
                    yield name, f"{part} {field} {'required' if mine[field] else 'optional'}"


def reasons() -> list[tuple[str, str]]:
    """Return the operations and differences that docs/public-api.md explains, as patterns."""
    text = (
        (ROOT / "docs" / "public-api.md")
        .read_text()
        .partition("## Differences from SaladCloud's reference")[2]
    )
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| .+ \|$", text, re.MULTILINE)
    return [(operation, difference) for operation, difference in rows]


def test_differences_from_the_reference_and_their_reasons_correspond() -> None:
    found = sorted(set(differences()))
    explained = reasons()
    unexplained = [each for each in found if not any(all(map(fnmatchcase, each, row)) for row in explained)]
    for operation, difference in found:
        print(f"{operation}: {difference}")  # noqa: T201 (with -s)
    assert unexplained == []
    stale = [row for row in explained if not any(all(map(fnmatchcase, each, row)) for each in found)]
    assert stale == []
