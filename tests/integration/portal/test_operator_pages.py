"""The portal's pages of organizations, API keys and nodes, over HTTP."""

import re
import secrets
from importlib.metadata import version

import pytest

from tests.integration.portal.conftest import Stage
from tests.support.http import Response
from tests.support.portal import PortalVisitor, plain

OPERATOR_PAGES = ("/organizations", "/nodes")


def own_form(visitor: PortalVisitor, page: str, action: str) -> dict[str, str]:
    """Return the hidden fields of one form of a page."""
    form = visitor.text(page).partition(f'method="post" action="{action}"')[2].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', form))


def secret_of(answer: Response) -> str:
    found = re.findall(r'<pre id="secret"[^>]*>([^<]+)</pre>', answer.expect(200).body.decode())
    return str(found[0])


def unused(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def test_an_organization_is_created_once_and_its_key_is_shown_once(stage: Stage) -> None:
    operator, name = stage.operator, unused("acme")
    fields = {**own_form(operator, "/organizations", "/organizations"), "name": name}
    key = secret_of(operator.post("/organizations", fields))
    PortalVisitor.signed_in(stage.server.url, key)
    again = operator.post("/organizations", fields).expect(303)
    assert again.headers["Location"] == f"/organizations/{name}"
    assert key not in operator.text(f"/organizations/{name}")
    assert len(stage.server.operator.events(type="organization.created", organization_name=name)) == 1


def test_a_name_that_is_taken_or_not_valid_is_refused_with_the_rule(stage: Stage) -> None:
    operator, path = stage.operator, "/organizations"
    for name, rule in ((stage.organization.name, "Choose another name"), ("Not Valid", "lower-case letters")):
        assert rule in plain(
            operator.post(path, {**own_form(operator, path, path), "name": name}).expect(400)
        )


def test_a_customer_rotates_the_organizations_key(stage: Stage) -> None:
    name = unused("rotates")
    operator = stage.operator
    fields = {**own_form(operator, "/organizations", "/organizations"), "name": name}
    first = PortalVisitor.signed_in(stage.server.url, secret_of(operator.post("/organizations", fields)))
    page, keys = f"/organizations/{name}", f"/organizations/{name}/keys"
    fields = {**own_form(first, page, keys), "label": "second"}
    second = PortalVisitor.signed_in(stage.server.url, secret_of(first.post(keys, fields)))
    assert first.post(keys, fields).expect(303).headers["Location"] == page
    assert second.text(page).count("/revoke") == 2
    old = re.findall(rf"{keys}/[0-9a-f-]+/revoke", second.text(page))[0]
    second.send(old, {}).expect(303)
    assert first.get(page).status == 303, "sessions of a revoked key end"
    assert "1 revoked" in plain(second.get(page).expect(200))


def test_customers_see_neither_operators_pages_nor_other_organizations(stage: Stage) -> None:
    visitor = stage.visitor(stage.other)
    foreign = f"/organizations/{stage.organization.name}"
    for path in (*OPERATOR_PAGES, foreign, f"/nodes/{stage.node.node_id}"):
        assert "There is no such page" in plain(visitor.get(path).expect(404))
    for path in (*OPERATOR_PAGES, f"{foreign}/keys", f"/nodes/{stage.node.node_id}/strike-off"):
        visitor.send(path, {"name": "x", "label": "x"}, page="/").expect(404)
    assert "active" in plain(stage.operator.get(f"/nodes/{stage.node.node_id}"))


def test_a_node_is_created_its_secret_rotated_and_the_node_struck_off(stage: Stage) -> None:
    operator, node_id = stage.operator, unused("node")
    fields = {**own_form(operator, "/nodes", "/nodes"), "node_id": node_id, "binding": "secret"}
    fields |= {"networks": "192.0.2.0/24 2001:db8::/32", "runtime": "podman"}
    first = secret_of(operator.post("/nodes", fields))
    page, rotate, end = f"/nodes/{node_id}", f"/nodes/{node_id}/secret", f"/nodes/{node_id}/strike-off"
    assert operator.post("/nodes", fields).expect(303).headers["Location"] == page
    shown = plain(operator.get(page).expect(200))
    assert "192.0.2.0/24, 2001:db8::/32" in shown
    assert "podman" in shown
    form = own_form(operator, page, rotate)
    second = secret_of(operator.post(rotate, form))
    assert second != first
    assert operator.post(rotate, form).expect(303).headers["Location"] == page
    assert len(stage.server.operator.events(type="node.secret_changed", node_id=node_id)) == 1
    operator.send(end, {}).expect(303)
    assert "struck off" in plain(operator.get(page))


def test_a_node_bound_by_certificate_gets_an_enrolment_secret(stage: Stage) -> None:
    operator, node_id = stage.operator, unused("node")
    fields = {**own_form(operator, "/nodes", "/nodes"), "node_id": node_id, "binding": "certificate"}
    assert "crisper node enroll" in plain(operator.post("/nodes", fields).expect(200))
    page = f"/nodes/{node_id}"
    assert secret_of(operator.post(f"{page}/secret", own_form(operator, page, f"{page}/secret")))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("node_id", "../x", "An id has"),
        ("networks", "everywhere", "Networks are written as"),
        ("encryption_key", "no key", "encryption_key"),
        ("runtime", "other", "Choose one of the runtimes"),
    ],
)
def test_a_node_that_is_not_valid_is_refused_with_the_rule(
    stage: Stage, field: str, value: str, rule: str
) -> None:
    operator = stage.operator
    fields = {**own_form(operator, "/nodes", "/nodes"), "node_id": unused("node"), "binding": "secret"}
    assert rule.lower() in plain(operator.post("/nodes", {**fields, field: value}).expect(400)).lower()


def test_the_system_page_shows_version_uptime_disk_and_certificate(stage: Stage) -> None:
    said = plain(stage.operator.get("/system").expect(200))
    assert f"Version {version('crisper-registry')}" in said
    assert re.search(r"This process runs since \d\d \w{3} \d{4}", said)
    assert re.search(r"Free disk space [\d.]+ (G|T)B", said)
    assert "Certificate none" in said
