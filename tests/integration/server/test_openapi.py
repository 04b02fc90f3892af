"""The APIs keep to the document that they publish."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.crisper import CrisperServer
from tests.support.http import request

# A run of everything that the document leads to takes minutes; CRISPER_TEST_SCHEMA_S=300 is one.
BUDGET_S = int(os.environ.get("CRISPER_TEST_SCHEMA_S", "12"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
ENDLESS = "/api/v1/events/stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrisperServer]:
    """A server of its own: what is asked of it strikes off nodes and deletes groups."""
    with CrisperServer(tmp_path_factory.mktemp("documented") / "server") as server:
        server.operator.create_organization("acme-corp")
        server.operator.create_node("node-7")
        yield server


def test_the_document_is_there_for_anybody(server: CrisperServer) -> None:
    document = request("GET", f"{server.url}/openapi.json").expect(200).json()
    assert document["openapi"] == "3.1.0"
    assert sum(len(methods) for methods in document["paths"].values()) > 35


def test_the_page_asks_for_nothing_from_elsewhere(server: CrisperServer) -> None:
    page = request("GET", f"{server.url}/docs").expect(200)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.body.decode()):
        assert urlsplit(link).netloc == ""
        assert request("GET", server.url + link).expect(200).body
    request("GET", f"{server.url}/docs/index.html").expect(404)


@pytest.mark.parametrize(
    ("operations", "budget_s", "checks"),
    [("--exclude-tag", BUDGET_S, CHECKS), ("--include-tag", 4, CHECKS[1:])],
    ids=["in scope", "501"],
)
def test_the_apis_answer_as_the_document_says(
    server: CrisperServer, tmp_path: Path, operations: str, budget_s: int, checks: Sequence[str]
) -> None:
    key = server.operator_key
    command = [
        *(str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--exclude-path", ENDLESS),
        *("--checks", ",".join(checks), "--phases", "coverage,fuzzing", "--max-time", str(budget_s)),
        *(operations, "out of scope"),
        *("--generation-database", "none", "--no-color", "--continue-on-failure", "--no-shrink"),
        *("--request-timeout", "60"),
        *("-H", f"Authorization: Bearer {key}", "-H", f"Salad-Api-Key: {key}"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
