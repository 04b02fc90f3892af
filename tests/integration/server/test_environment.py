"""Only answers to the customer contain environment values (docs/keys.md).

A canary is sent in the environment and the command of groups that are created, changed, refused, rolled back
and deleted. Then every file of the server, its database, its ledger and its backups is searched for it.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Customer
from tests.support.http import request
from tests.support.http_server import Handler, HttpServer
from tests.support.portal import PortalVisitor
from tests.support.postgres import postgres
from tests.support.processes import run, wait_until
from tests.support.traces import secrets_found
from tests.support.upstream import Upstream

CANARY = "canary-8d2f60b1c94e7a35"


@dataclass
class Case:
    """A server that logs all it can, and the folders that it and its database write to."""

    server: CrisperServer
    folders: list[Path]
    database_url: str | None


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream, hooks: "Hooks"
) -> Iterator[Case]:
    env = {"CRISPER_LOG_LEVEL": "debug", "CRISPER_INSECURE_WEBHOOKS": hooks.host}
    allowed = [upstream.host]
    if request.param == "sqlite":
        env["CRISPER_DATABASE_URL"] = ""
        server = CrisperServer(tmp_path / "server", insecure_registries=allowed, env=env)
        with server:
            yield Case(server, [], None)
        return
    # A socket's path may not be long, and the server's own user must reach it.
    with tempfile.TemporaryDirectory(prefix="crisper-pg-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with postgres(folder) as url:
            env["CRISPER_DATABASE_URL"] = url
            server = CrisperServer(tmp_path / "server", insecure_registries=allowed, env=env)
            with server:
                yield Case(server, [folder], url)


class Hooks(HttpServer):
    """A webhook endpoint that keeps what it is sent."""

    def __init__(self) -> None:
        bodies = self.bodies = list[str]()

        class Keeping(Handler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                bodies.append(f"{self.headers}{self.rfile.read(length).decode()}")
                self.answer(204)

        super().__init__(Keeping)
        self.host = f"127.0.0.1:{self.port}"


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with Hooks() as endpoint:
        yield endpoint


def environment(number: int) -> dict[str, Any]:
    value = f"{CANARY}-{number}"
    return {"environment_variables": {"TOKEN": value}, "command": ["run", value]}


def journey(customer: Customer, upstream: Upstream) -> str:
    """Send the canary in every way. Return the name of the group that stays."""
    image = upstream.reference(images.random_layers())
    container = {"image": image, "resources": {"cpu": 1, "memory": 1024}, **environment(0)}
    container["registry_authentication"] = {
        "basic": {"username": upstream.username, "password": upstream.password}
    }
    body = {"container": container, "autostart_policy": False, "replicas": 1, "restart_policy": "never"}
    for name in ("kept", "gone"):
        customer.call("POST", "", {**body, "name": name}).expect(201)
        assert customer.wait_settled(name)["current_state"]["status"] == "stopped"
    for number in (1, 2):
        changed = customer.patch("kept", {"container": environment(number)})
        assert changed["container"]["environment_variables"] == {"TOKEN": f"{CANARY}-{number}"}
    for wrong in (
        {"container": {"environment_variables": {"TOKEN": [CANARY]}}},
        {"container": {"environment_variables": CANARY}},
        {"container": {"command": CANARY}},
        {"container": {**environment(3), "image": f"{CANARY}://web"}},
        {"container": environment(3), "replicas": CANARY},
        {"container": {**environment(3), CANARY: 1}},
    ):
        customer.call("PATCH", "kept", wrong).expect(400)
        customer.call("POST", "", {**body, "name": "refused", **wrong}).expect(400)
    rolled = customer.call("POST", "kept/rollback", {"version": 1}).expect(200).json()
    assert rolled["container"]["environment_variables"] == {"TOKEN": f"{CANARY}-0"}
    assert rolled["container"]["command"] == ["run", f"{CANARY}-0"]
    customer.delete("gone")
    return "kept"


@pytest.mark.timeout(300)
def test_an_environment_value_is_in_no_file_event_or_message(
    case: Case, upstream: Upstream, hooks: Hooks, tmp_path: Path
) -> None:
    server, operator = case.server, case.server.operator
    organization = operator.create_organization()
    customer = server.customer(organization)
    url = f"http://{hooks.host}/hook"
    operator.call("POST", f"/organizations/{organization.name}/webhooks", {"url": url}).expect(201)
    kept = journey(customer, upstream)

    visitor = PortalVisitor.signed_in(server.url, organization.api_key)
    assert kept in visitor.text("/")
    events = operator.call("GET", "/events?limit=1000").expect(200)
    assert len(events.json()["items"]) > 8
    assert CANARY not in events.body.decode()
    wait_until(lambda: "group.rolled_back" in "".join(hooks.bodies), timeout_s=20, what="webhook messages")
    assert CANARY not in "".join(hooks.bodies)
    metrics = request("GET", f"{server.url}/metrics")
    assert CANARY not in metrics.body.decode()

    backup = back_up(case, tmp_path / "backup")
    server.stop()
    places = [server.data_dir, server.tmp_dir, server.log, backup, *case.folders]
    assert secrets_found(places, {"canary": CANARY}) == []

    server.start()
    assert customer.group(kept)["container"]["environment_variables"] == {"TOKEN": f"{CANARY}-0"}
    shred = [str(CRISPER), "keys", "shred", organization.name, "--yes", "--data-dir", str(server.data_dir)]
    run(shred, env=settings(case)).check()
    shredded = customer.group(kept)
    assert CANARY not in repr(shredded)
    assert (shredded["container"]["environment_variables"], shredded["container"]["command"]) == ({}, None)
    customer.delete(kept)


def settings(case: Case) -> dict[str, str]:
    return {"CRISPER_DATABASE_URL": case.database_url or ""}


def back_up(case: Case, target: Path) -> Path:
    if case.database_url is None:
        run([str(CRISPER), "backup", str(target), "--data-dir", str(case.server.data_dir)]).check()
        return target
    target.mkdir()
    host = case.database_url.rpartition("host=")[2]
    for form in ("plain", "custom"):
        dump = [
            "pg_dump",
            "-h",
            host,
            "-U",
            "crisper",
            f"--format={form}",
            "-f",
            str(target / form),
            "crisper",
        ]
        subprocess.run(dump, check=True, capture_output=True)
    return target
