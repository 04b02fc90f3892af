"""`/api/v1` of a real server."""

from dataclasses import replace

import pytest

from tests.integration.server.conftest import Shop
from tests.support.crisper import unique
from tests.support.http import request
from tests.support.upstream import Upstream


def test_only_the_operator_key_opens_it(shop: Shop) -> None:
    url = f"{shop.server.url}/api/v1/events"
    for shown in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {shop.organization.api_key}"},
    ):
        refused = request("GET", url, headers=shown).expect(401)
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ("Registry.example.com:80", "registry.example.com"),
        ("[0::1]:80", "[::1]"),
        ("a.example:443", "a.example:443"),
    ],
)
def test_token_and_realm_name_the_host_without_the_default_port(shop: Shop, sent: str, host: str) -> None:
    url, headers = shop.server.url, {"Authorization": f"Bearer {shop.server.operator_key}", "Host": sent}
    token = shop.mint()
    shown = request("GET", f"{url}/api/v1/pull-tokens/{token.token_id}", headers=headers).expect(200).json()
    assert shown["image"]["reference"].startswith(f"{host}/{shop.repository}@")
    challenge = request("GET", f"{url}/v2/", headers={"Host": sent}).expect(401).headers["WWW-Authenticate"]
    assert f'realm="http://{host}/token"' in challenge


@pytest.mark.parametrize("sent", ['a",realm="http://b.example', "user@a.example", "a.example:0"])
def test_a_host_that_is_none_is_refused_and_nothing_is_minted(shop: Shop, sent: str) -> None:
    url, headers = shop.server.url, {"Authorization": f"Bearer {shop.server.operator_key}", "Host": sent}
    body = {
        "organization_name": shop.organization.name,
        "project_name": "default",
        "container_group_name": shop.group,
        "node_id": shop.server.operator.create_node().node_id,
    }
    refused = request("POST", f"{url}/api/v1/pull-tokens", headers=headers, body=body).expect(400)
    assert "Host" in refused.json()["detail"]
    minted = shop.server.operator.events(type="token.minted")
    assert body["node_id"] not in {event["node_id"] for event in minted}
    answer = request("GET", f"{url}/v2/", headers={"Host": sent}).expect(400)
    assert "WWW-Authenticate" not in answer.headers
    assert "Host" in answer.json()["errors"][0]["message"]


def test_an_organizations_key_opens_its_own_groups_only(shop: Shop) -> None:
    operator = shop.server.operator
    made = operator.create_organization()
    operator.call("POST", "/organizations", {"name": made.name}).expect(409)
    own = f"{shop.server.url}/api/public/organizations/{made.name}/projects/default/containers"
    other = f"{shop.server.url}/api/public/organizations/{shop.organization.name}/projects/default/containers"
    assert request("GET", own, headers={"Salad-Api-Key": made.api_key}).expect(200).json() == {"items": []}
    request("GET", other, headers={"Salad-Api-Key": made.api_key}).expect(404)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/organizations", {"name": "No Capitals"}, "name"),
        ("/organizations", {}, "name"),
        ("/nodes", {"node_id": "../etc", "binding": "secret"}, "node_id"),
        ("/nodes", {"node_id": "pc", "binding": "trust"}, "binding"),
        ("/nodes", {"node_id": "pc", "binding": "secret", "networks": ["10.0.0.1/8"]}, "networks.0"),
        ("/pull-tokens", {"ttl_s": 100_000}, "ttl_s"),
    ],
)
def test_bad_input_is_told_by_field_and_changes_nothing(
    shop: Shop, path: str, body: dict[str, object], field: str
) -> None:
    problem = shop.server.operator.call("POST", path, body).expect(400).json()
    assert any(name.startswith(field) for name in problem["errors"])


def test_a_body_that_is_no_json_is_a_clear_400(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.server.operator_key}", "Content-Type": "application/json"}
    url = f"{shop.server.url}/api/v1/organizations"
    assert request("POST", url, headers=headers, body=b"{").expect(400).json()["errors"]
    headers["Content-Type"] = "text/plain"
    request("POST", url, headers=headers, body=b"{}").expect(415)


def test_a_node_struck_off_loses_its_tokens_and_its_id_for_ever(shop: Shop) -> None:
    operator = shop.server.operator
    node = operator.create_node()
    token = shop.mint(node)
    bearer = shop.exchange(token, node).expect(200).json()["token"]
    shop.get("manifests/latest", bearer).expect(200)
    operator.call("DELETE", f"/nodes/{node.node_id}").expect(204)
    shop.get("manifests/latest", bearer).expect(401)
    assert operator.call("GET", f"/nodes/{node.node_id}").expect(200).json()["revoked_at"]
    operator.call("POST", "/nodes", {"node_id": node.node_id, "binding": "secret"}).expect(409)
    body = {
        "organization_name": shop.organization.name,
        "project_name": "default",
        "container_group_name": shop.group,
        "node_id": node.node_id,
    }
    operator.call("POST", "/pull-tokens", body).expect(409)
    operator.call("DELETE", "/nodes/never-was").expect(404)


def test_a_node_is_held_to_its_networks(shop: Shop) -> None:
    operator = shop.server.operator
    body = {"node_id": unique("node"), "binding": "secret", "networks": ["192.0.2.0/24"]}
    operator.call("POST", "/nodes", body).expect(201)
    assert operator.call("GET", f"/nodes/{body['node_id']}").json()["networks"] == ["192.0.2.0/24"]


def test_minting_for_what_is_not_there_says_what(shop: Shop) -> None:
    operator = shop.server.operator
    body = {
        "organization_name": shop.organization.name,
        "project_name": "default",
        "container_group_name": "nothing",
        "node_id": shop.node.node_id,
    }
    assert "nothing" in operator.call("POST", "/pull-tokens", body).expect(404).json()["detail"]
    body |= {"container_group_name": shop.group, "node_id": "nobody"}
    assert "nobody" in operator.call("POST", "/pull-tokens", body).expect(404).json()["detail"]
    body |= {"node_id": shop.node.node_id, "variant": "gzip"}
    assert "variant" in operator.call("POST", "/pull-tokens", body).expect(400).json()["errors"]


def test_minting_for_a_group_that_failed_is_a_conflict(shop: Shop) -> None:
    customer = shop.server.customer(shop.organization)
    group = customer.create_group("127.0.0.1:9/never/there:1")
    state = customer.wait_settled(group)["current_state"]
    assert state["status"] == "failed"
    body = {
        "organization_name": shop.organization.name,
        "project_name": "default",
        "container_group_name": group,
        "node_id": shop.node.node_id,
    }
    assert "failed" in shop.server.operator.call("POST", "/pull-tokens", body).expect(409).json()["detail"]


def test_a_nodes_bearer_completes_its_own_pull_and_nothing_else(shop: Shop) -> None:
    mine, other = shop.mint(), shop.mint()
    headers = {"Authorization": f"Bearer {shop.bearer(mine)}"}
    tokens = f"{shop.server.url}/api/v1/pull-tokens"
    request("POST", f"{tokens}/{other.token_id}/complete", headers=headers).expect(401)
    request("GET", f"{tokens}/{mine.token_id}", headers=headers).expect(401)
    done = request("POST", f"{tokens}/{mine.token_id}/complete", headers=headers).expect(200).json()
    assert done["state"] == "done"
    shop.exchange(mine).expect(401)
    assert shop.causes(mine) == ["replayed"]


def test_the_trail_pages_by_cursor(shop: Shop) -> None:
    token = shop.mint()
    shop.exchange(token).expect(200)
    shop.server.operator.redemptions(token)
    shop.server.operator.complete(token)
    shop.exchange(token).expect(401)
    seen: list[str] = []
    after: str | None = "0"
    while after is not None:
        query = f"token_id={token.token_id}&limit=2&after={after}"
        page = shop.server.operator.call("GET", f"/events?{query}").expect(200).json()
        seen += [event["type"] for event in page["items"]]
        after = page["next_after"]
    assert seen == ["token.minted", "token.redeemed", "token.completed", "token.refused"]
    shop.server.operator.call("GET", "/events?after=-1").expect(400)


def test_deleting_a_group_ends_its_sessions_at_once(shop: Shop, upstream: Upstream) -> None:
    customer = shop.server.customer(shop.organization)
    group = customer.import_image(
        upstream.reference(shop.image), username=upstream.username, password=upstream.password
    )
    doomed = replace(shop, group=group)
    token, waiting = doomed.mint(), doomed.mint()
    bearer = doomed.bearer(token)
    doomed.get("manifests/latest", bearer).expect(200)
    customer.delete(group)
    doomed.get("manifests/latest", bearer).expect(401)
    doomed.exchange(waiting).expect(401)
    shop.get("manifests/latest", shop.bearer()).expect(200)


@pytest.mark.parametrize(("path", "name"), [("/nodes", "node_id"), ("/organizations", "name")])
def test_lists_of_nodes_and_organizations_have_pages(shop: Shop, path: str, name: str) -> None:
    operator = shop.server.operator
    for _ in range(3):
        operator.create_node()
        operator.create_organization()
    whole = operator.call("GET", path).expect(200).json()
    assert len({each[name] for each in whole["items"]}) == len(whole["items"]) >= 3
    assert whole["next_after"] is None
    found: list[dict[str, object]] = []
    after: str | None = ""
    while after is not None:
        page = operator.call("GET", f"{path}?limit=2&after={after}").expect(200).json()
        assert len(page["items"]) <= 2
        found += page["items"]
        after = page["next_after"]
    assert found == whole["items"]
    for wrong in ("limit=-1", "limit=1e30", "after=%00"):
        operator.call("GET", f"{path}?{wrong}").expect(400)
