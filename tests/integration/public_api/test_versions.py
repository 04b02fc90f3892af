"""Versions, credentials and rollback, over HTTP, with a customer's registry that wants a password."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.crisper import CRISPER, PROJECT, CrisperServer, Customer, Organization
from tests.support.images import Image
from tests.support.processes import Result, run
from tests.support.upstream import PASSWORD, USERNAME, Upstream

RIGHT = {"basic": {"username": USERNAME, "password": PASSWORD}}
WRONG = {"basic": {"username": USERNAME, "password": "not-the-password"}}
FIRST = images.random_layers(1, 2000, "acme/first")
SECOND = images.random_layers(1, 3000, "acme/second")


@dataclass(frozen=True)
class Shop:
    """A server, a customer of it and the customer's registry."""

    server: CrisperServer
    upstream: Upstream
    organization: Organization
    customer: Customer

    def served(self, image: Image = FIRST, *, autostart: bool = False) -> str:
        """Create a group with an image that is stored; return its name."""
        name = self.customer.create_group(self.upstream.reference(image), authentication=RIGHT)
        assert self.settled(name)["current_state"]["status"] == "stopped"
        if autostart:
            self.post(f"{name}/start", 202)
        return name

    def settled(self, name: str) -> dict[str, Any]:
        return self.customer.wait_settled(name)

    def container(self, name: str, **container: object) -> dict[str, Any]:
        """Change a group's container; return the answer."""
        return self.customer.patch(name, {"container": container})

    def fail(self, name: str) -> dict[str, Any]:
        """Have the next version of a group fail, at its registry; return the group."""
        reference = self.upstream.reference(SECOND)
        pending = self.container(name, image=reference, registry_authentication=WRONG)
        assert (pending["current_state"]["status"], pending["pending_change"]) == ("pending", True)
        return self.settled(name)

    def post(self, path: str, status: int, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (JSON)
        answer = self.customer.call("POST", path, body).expect(status)
        return answer.json() if answer.body else None

    def designate(self, name: str) -> str:
        """Designate a node and complete its pull; return the digest that it was given."""
        operator = self.server.operator
        token = operator.mint(self.organization, name, operator.create_node())
        operator.complete(token)
        self.customer.call("GET", f"{name}/instances").expect(200)
        return token.digest

    def imports(self, name: str) -> int:
        """Count the imports of a group that have ended."""
        events = [*self._events("group.imported"), *self._events("group.failed")]
        return sum(event["detail"]["group"] == name for event in events)

    def _events(self, type_: str) -> list[dict[str, Any]]:
        only = {"type": type_, "organization_name": self.organization.name, "limit": "1000"}
        return self.server.operator.events(**only)

    def crisper(self, *words: str, stdin: str = "") -> Result:
        """Run the command line as the customer."""
        env = {"CRISPER_URL": self.server.url, "CRISPER_API_KEY": self.organization.api_key}
        where = ["--organization", self.organization.name, "--project", PROJECT]
        return run([str(CRISPER), *words, *where], env=env, stdin=stdin.encode())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("versions")
    with Upstream(folder / "upstream") as upstream:
        for image in (FIRST, SECOND):
            upstream.push(image)
        with CrisperServer(folder / "crisper", insecure_registries=[upstream.host]) as server:
            organization = server.operator.create_organization()
            yield Shop(server, upstream, organization, server.customer(organization))


def test_credentials_without_an_image_import_what_failed(shop: Shop) -> None:
    name = shop.customer.create_group(shop.upstream.reference(FIRST), authentication=WRONG)
    failed = shop.settled(name)
    assert failed["current_state"]["status"] == "failed"
    assert failed["current_state"]["description"].startswith("failed to authenticate: ")
    answer = shop.customer.call("POST", f"{name}/start").expect(400)
    assert "credentials" in answer.json()["detail"]
    shop.container(name, registry_authentication=RIGHT)
    stored = shop.settled(name)
    assert stored["current_state"]["status"] == "stopped"
    assert (stored["version"], stored["pending_change"]) == (1, False)


def test_credentials_with_the_same_image_import_it_again(shop: Shop) -> None:
    name = shop.served()
    again = shop.container(name, image=shop.upstream.reference(FIRST), registry_authentication=RIGHT)
    assert (again["version"], again["current_state"]["status"]) == (2, "pending")
    assert shop.settled(name)["container"]["hash"] == FIRST.digest
    assert shop.imports(name) == 2


def test_without_credentials_only_pull_always_imports_the_same_image(shop: Shop) -> None:
    name = shop.served()
    same = {"container": {"image": shop.upstream.reference(FIRST)}}
    for change in (same, {"replicas": 2}, {"container": {"registry_authentication": None}}):
        assert shop.customer.patch(name, change)["current_state"]["status"] == "stopped"
    assert shop.imports(name) == 1
    asked = shop.customer.patch(name, {"container": {"registry_authentication": RIGHT}}, "?pull=always")
    assert (asked["version"], asked["current_state"]["status"]) == (2, "pending")
    shop.settled(name)
    # Its registry wants a password: without one, the import that was asked for fails.
    assert shop.customer.patch(name, {}, "?pull=always")["version"] == 3
    assert "version 3 failed to authenticate" in shop.settled(name)["current_state"]["description"]


def test_a_create_that_repeats_a_failed_group_imports_with_its_credentials(shop: Shop) -> None:
    image = shop.upstream.reference(FIRST)
    name = shop.customer.create_group(image, authentication=WRONG)
    first = shop.settled(name)
    shop.customer.create_group(image, name=name, authentication=RIGHT)
    stored = shop.settled(name)
    assert (stored["id"], stored["current_state"]["status"]) == (first["id"], "stopped")
    assert stored["version"] == 1
    shop.customer.create_group(image, name=name, authentication=WRONG)  # idempotent: it is there
    assert shop.customer.group(name)["current_state"]["status"] == "stopped"
    assert shop.imports(name) == 2


def test_a_create_that_repeats_a_failed_group_imports_after_the_operator_changed_a_setting(
    tmp_path: Path,
) -> None:
    with Upstream.anonymous(tmp_path / "upstream") as upstream:
        upstream.push(FIRST)
        server = CrisperServer(tmp_path / "crisper")
        with server:
            organization = server.operator.create_organization()
            customer = server.customer(organization)
            name = customer.create_group(upstream.reference(FIRST))
            assert customer.wait_settled(name)["current_state"]["status"] == "failed"
        server._insecure = (upstream.host,)
        with server:
            assert customer.status(name) == "failed"
            customer.create_group(upstream.reference(FIRST), name=name)
            assert customer.wait_settled(name)["current_state"]["status"] == "stopped"


def test_the_command_line_imports_again_with_other_credentials(shop: Shop) -> None:
    image = shop.upstream.reference(FIRST)
    login = ("--username", USERNAME, "--password-stdin")
    create = ("image", "import", image, "--name", "by-cli", *login)
    failed = shop.crisper(*create, stdin=WRONG["basic"]["password"])
    assert failed.returncode == 1
    assert "failed to authenticate" in failed.output
    assert shop.crisper(*create, stdin=PASSWORD + "\n").check()
    update = ("group", "update", "by-cli", *login)
    shop.crisper(*update, stdin=PASSWORD).check()
    assert shop.customer.group("by-cli")["version"] == 2
    worse = shop.crisper(*update, stdin=WRONG["basic"]["password"])
    assert worse.returncode == 1
    assert "version 3 failed to authenticate; version 2 is served" in worse.output
    assert shop.imports("by-cli") == 4
    shop.crisper("group", "rollback", "by-cli").check()
    rolled_back = shop.customer.group("by-cli")
    assert (rolled_back["version"], rolled_back["current_state"]["description"]) == (4, "")
    shop.crisper("group", "rollback", "by-cli", "--to", "1").check()
    refused = shop.crisper("group", "rollback", "by-cli", "--to", "3")
    assert refused.returncode == 1
    assert "choose a stored version: 2, 1" in refused.output


@pytest.mark.parametrize("status", ["stopped", "deploying", "running"])
def test_a_failed_version_leaves_status_image_and_instances(shop: Shop, status: str) -> None:
    name = shop.served(autostart=status != "stopped")
    if status == "running":
        shop.designate(name)
    assert shop.customer.status(name) == status
    failed = shop.fail(name)
    assert failed["current_state"]["status"] == status
    description = failed["current_state"]["description"]
    assert description.startswith("version 2 failed to authenticate; version 1 is served. Reason: ")
    assert (failed["version"], failed["pending_change"]) == (2, True)
    assert (failed["container"]["hash"], failed["container"]["size"]) == (FIRST.digest, shop_size(FIRST))
    assert shop.designate(name) == FIRST.digest
    shop.post(f"{name}/stop", 202)
    assert shop.customer.status(name) == "stopped"
    shop.post(f"{name}/start", 202)
    started = shop.customer.group(name)
    assert started["current_state"]["status"] == "deploying"
    assert started["current_state"]["description"] == description
    assert shop.designate(name) == FIRST.digest
    assert shop.customer.status(name) == "running"
    # What failed can still be had.
    shop.container(name, registry_authentication=RIGHT)
    assert shop.settled(name)["container"]["hash"] == SECOND.digest
    assert shop.designate(name) == SECOND.digest


def test_nodes_are_started_stopped_and_served_while_the_next_version_is_imported(shop: Shop) -> None:
    name = shop.served()
    body = {"image": shop.upstream.reference(SECOND), "registry_authentication": WRONG}
    shop.container(name, **body)
    assert shop.designate(name) == FIRST.digest
    shop.post(f"{name}/start", 202)
    assert shop.settled(name)["current_state"]["status"] == "deploying"


def test_a_rollback_returns_image_and_configuration(shop: Shop) -> None:
    name = shop.served()
    shop.container(name, environment_variables={"A": "1"}, command=["serve"])
    shop.container(
        name,
        image=shop.upstream.reference(SECOND),
        registry_authentication=RIGHT,
        environment_variables={"A": None, "B": "2"},
    )
    assert shop.settled(name)["version"] == 3
    shop.customer.patch(name, {"replicas": 7})
    back = shop.post(f"{name}/rollback", 200, {"version": 2})
    assert (back["version"], back["container"]["hash"], back["replicas"]) == (4, FIRST.digest, 7)
    assert back["container"]["image"] == shop.upstream.reference(FIRST)
    assert back["container"]["environment_variables"] == {"A": "1"}
    assert back["container"]["command"] == ["serve"]
    assert back["current_state"]["status"] == "stopped"
    assert shop.designate(name) == FIRST.digest
    assert shop.post(f"{name}/rollback", 200, {"version": 4})["version"] == 4
    forward = shop.post(f"{name}/rollback", 200, {})
    assert (forward["version"], forward["container"]["hash"]) == (5, SECOND.digest)
    for version in (6, 99):
        refused = shop.post(f"{name}/rollback", 400, {"version": version})
        assert refused["errors"]["version"] == ["choose a stored version: 4, 3, 2, 1"]
    for body in ({"version": 0}, {"version": "2"}, {"to": 2}):
        shop.post(f"{name}/rollback", 400, body)
    shop.post("nothing/rollback", 404, {})


def test_a_rollback_ends_a_running_import_and_takes_a_failure_back(shop: Shop) -> None:
    name = shop.served(autostart=True)
    body = {"image": shop.upstream.reference(SECOND), "registry_authentication": WRONG}
    shop.container(name, **body)
    back = shop.post(f"{name}/rollback", 200, {})
    assert (back["version"], back["current_state"]["status"]) == (3, "deploying")
    assert back["current_state"]["description"] == ""
    shop.fail(name)
    back = shop.post(f"{name}/rollback", 200, {})
    assert (back["version"], back["pending_change"], back["current_state"]["description"]) == (5, False, "")
    assert shop.designate(name) == FIRST.digest


def test_the_version_rises_with_what_it_counts_and_the_tags_go_along(shop: Shop) -> None:
    name = shop.served()
    probe: dict[str, Any] = {"initial_delay_seconds": 1, "period_seconds": 1, "timeout_seconds": 1}
    probe |= {"success_threshold": 1, "failure_threshold": 1, "exec": {"command": ["true"]}}
    changes: list[tuple[dict[str, Any], int]] = [
        ({"replicas": 2}, 1),
        ({"container": {"priority": "low"}}, 1),
        ({"display_name": "Shop"}, 1),
        ({"container": {"command": ["serve"]}}, 2),
        ({"container": {"command": ["serve"]}}, 2),
        ({"container": {"environment_variables": {"A": "b"}}}, 3),
        ({"liveness_probe": probe}, 4),
        ({"readiness_probe": probe}, 5),
        ({"startup_probe": probe}, 6),
        ({"startup_probe": None}, 7),
    ]
    for change, version in changes:
        changed = shop.customer.patch(name, change)
        assert (changed["version"], changed["pending_change"]) == (version, False), change
        assert changed["container"]["hash"] == FIRST.digest
        assert changed["current_state"]["status"] == "stopped"
    operator = shop.server.operator
    token = operator.mint(shop.organization, name, operator.create_node())
    assert (token.digest, token.reference.rpartition(":")[2]) == (FIRST.digest, "v7")
    assert shop.imports(name) == 1


def test_a_change_is_pending_until_every_instance_runs_it(shop: Shop) -> None:
    name = shop.served(autostart=True)
    for _ in range(2):
        shop.designate(name)
    changed = shop.container(name, environment_variables={"A": "b"})
    assert (changed["version"], changed["pending_change"]) == (2, True)
    assert changed["current_state"]["status"] == "running"
    first, second = shop.customer.call("GET", f"{name}/instances").json()["instances"]
    assert {first["version"], second["version"]} == {1}
    shop.post(f"{name}/instances/{first['id']}/recreate", 202)
    shop.post(f"{name}/instances/{second['id']}/restart", 202)
    shown = shop.customer.call("GET", f"{name}/instances").json()["instances"]
    assert [each["version"] for each in shown] == [2, 1]
    assert shop.customer.group(name)["pending_change"] is True
    shop.post(f"{name}/instances/{second['id']}/recreate", 202)
    assert shop.customer.group(name)["pending_change"] is False
    shop.container(name, image=shop.upstream.reference(SECOND), registry_authentication=RIGHT)
    assert shop.settled(name)["pending_change"] is True
    shop.post(f"{name}/instances/{first['id']}/recreate", 202)  # its node does not have the new image
    assert shop.customer.group(name)["pending_change"] is True
    for each in (first, second):
        shop.post(f"{name}/instances/{each['id']}/reallocate", 202)
    shop.designate(name)
    assert shop.customer.group(name)["pending_change"] is False


def shop_size(image: Image) -> int:
    return int(sum(len(content) for content in image.blobs.values()))


def test_pasted_credentials_are_taken_and_broken_ones_get_a_sentence(shop: Shop) -> None:
    image = shop.upstream.reference(FIRST)
    pasted = {"basic": {"username": f" {USERNAME}\n", "password": f"\t{PASSWORD}\r\n\n"}}
    name = shop.customer.create_group(image, authentication=pasted)
    assert shop.settled(name)["current_state"]["status"] == "stopped"
    broken = {"basic": {"username": USERNAME, "password": "hun\nter2"}}
    refused = shop.customer.call("PATCH", name, {"container": {"registry_authentication": broken}}).expect(
        400
    )
    field = "container.registry_authentication.basic.password"
    reason = "contains a line break or another control character: copy it again, as one line"
    assert refused.json()["errors"] == {field: [reason]}
    assert b"ter2" not in refused.body


def test_a_google_key_is_not_sent_to_another_registry(shop: Shop) -> None:
    key = {"gcp_gar": {"service_key": '{\n  "type": "service_account"\n}\n'}}
    name = shop.customer.create_group(shop.upstream.reference(FIRST), authentication=key)
    state = shop.settled(name)["current_state"]
    assert state["status"] == "failed"
    assert "is not a registry of Google's" in state["description"]
