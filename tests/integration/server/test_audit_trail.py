"""The audit trail of a real server: export, chain, refused keys, and a tenant that changes too much."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import Response, request
from tests.support.portal import PortalVisitor
from tests.support.processes import Result, run, wait_until

CHANGES = 2  # one more every 30 s


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrisperServer]:
    env = {"CRISPER_DATABASE_URL": "", "CRISPER_ORGANIZATION_CHANGES_PER_MINUTE": str(CHANGES)}
    with CrisperServer(tmp_path_factory.mktemp("trail") / "server", env=env) as server:
        yield server


def crisper(server: CrisperServer, *arguments: str) -> Result:
    return run([str(CRISPER), *arguments, "--data-dir", str(server.data_dir)])


def audit_finding(server: CrisperServer) -> dict[str, Any]:
    found = json.loads(crisper(server, "doctor", "--json").output)
    return next(dict(finding) for finding in found if finding["subject"] == "audit")


def as_operator(server: CrisperServer, key: str) -> Response:
    return request("GET", f"{server.url}/api/v1/nodes", headers={"Authorization": f"Bearer {key}"})


def test_refused_operator_keys_are_recorded_and_limited(server: CrisperServer) -> None:
    statuses = [as_operator(server, f"wrong-{number}").status for number in range(70)]
    assert set(statuses[:60]) == {401}
    assert statuses[-1] == 429
    assert as_operator(server, server.operator_key).status == 200
    events = server.operator.events(type="api_key.refused")
    assert 0 < len(events) <= 31
    assert {(event["cause"], event["detail"]["api"]) for event in events} == {("forged", "operator")}
    assert {event["source"] for event in events} == {"127.0.0.1"}
    assert "wrong" not in json.dumps(events)


def test_a_tenant_cannot_write_more_than_its_changes(server: CrisperServer) -> None:
    organization = server.operator.create_organization()
    customer = server.customer(organization)
    answers = [customer.call("POST", f"absent/{'start' if n % 2 else 'stop'}") for n in range(CHANGES + 2)]
    assert [answer.status for answer in answers] == [404] * CHANGES + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert customer.call("GET", "").status == 200
    visitor = PortalVisitor.signed_in(server.url, organization.api_key)
    refused = visitor.send("/groups/new", {"name": "web"})
    assert (refused.status, "Retry-After" in refused.headers) == (429, True)


def test_the_trail_is_exported_and_a_changed_record_is_found(server: CrisperServer) -> None:
    for _ in range(3):
        server.operator.create_organization()
    lines = crisper(server, "event", "export").check().output.splitlines()
    events = [json.loads(line) for line in lines]
    cursors = [event["cursor"] for event in events]
    assert cursors == sorted(cursors)
    assert len(events) >= 3
    later = crisper(server, "event", "export", "--after", str(cursors[-2])).check().output.splitlines()
    assert [json.loads(line)["cursor"] for line in later][:1] == cursors[-1:]
    wait_until(
        lambda: "0 are not chained" in audit_finding(server)["text"],
        timeout_s=20,
        what="the trail is chained",
    )
    assert audit_finding(server)["level"] == "ok"

    catalog = Path(server.data_dir) / "catalog.db"
    with closing(sqlite3.connect(catalog, timeout=15)) as database, database:
        changed = ("rival", cursors[-2])
        database.execute("UPDATE events SET organization = ? WHERE cursor = ?", changed)
    finding = audit_finding(server)
    assert finding["level"] == "problem"
    assert f"record {cursors[-2]} was changed" in finding["text"]
    assert not crisper(server, "doctor").ok
