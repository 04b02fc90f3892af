"""The charts: real imports, pulls and refusals, seen by their organization and by operators."""

import json
import re

import pytest

from tests.integration.portal.conftest import Stage
from tests.support import images
from tests.support.http import basic, request
from tests.support.portal import plain
from tests.support.processes import wait_until


@pytest.fixture(scope="module")
def group(stage: Stage) -> str:
    return stage.customer.import_image(stage.upstream.reference(images.runnable()), **stage.upstream.login)


def pull(stage: Stage, group: str) -> tuple[str, int]:
    """Pull as a node does, then show the token as another node. Returns the node and its bytes."""
    node = stage.server.operator.create_node()
    token = stage.server.operator.mint(stage.organization, group, node)
    repository = f"{stage.organization.name}/default/{group}"
    url = f"{stage.server.url}/token?service=crisper&scope=repository:{repository}:pull"
    proof = {"Authorization": basic(node.node_id, token.password(node))}
    bearer = request("GET", url, headers=proof).expect(200).json()["token"]
    sent = 0
    for layer in json.loads(images.runnable().manifest)["layers"]:
        blob = f"{stage.server.url}/v2/{repository}/blobs/{layer['digest']}"
        sent += len(request("GET", blob, headers={"Authorization": f"Bearer {bearer}"}).expect(200).body)
    other = stage.server.operator.create_node()
    stolen = {"Authorization": basic(other.node_id, token.password(other))}
    request("GET", url, headers=stolen).expect(401)
    return node.node_id, sent


def test_charts_show_what_happened_and_to_whom(stage: Stage, group: str) -> None:
    visitor, operator = stage.visitor(stage.organization), stage.operator
    node_id, sent = pull(stage, group)
    wait_until(lambda: "Sent" in visitor.text("/activity"), timeout_s=30, what="the bytes are counted")
    text = visitor.text("/activity?days=7")
    said = plain(visitor.get("/activity?days=7"))
    assert f"default/{group}" in said
    assert "failed to pull" in said or "failed to authenticate" in said
    assert 'class="series-0"' in text
    assert 'class="stripe"' in text, "failed imports"
    assert "Imports that ended" in said
    assert stage.organization.name in plain(operator.get("/activity"))
    assert sent > 0
    assert "The chart" not in plain(operator.get(f"/nodes/{node_id}"))
    wait_until(
        lambda: 'class="series-0"' in operator.text(f"/nodes/{node_id}"),
        timeout_s=30,
        what="the node's chart is filled",
    )


def test_another_organization_sees_nothing_of_it(stage: Stage, group: str) -> None:
    pull(stage, group)
    stranger = stage.visitor(stage.other)
    for query in ("", f"?organization={stage.organization.name}"):
        said = plain(stranger.get(f"/activity{query}").expect(200))
        assert group not in said
        assert stage.organization.name not in said


def test_charts_without_figures_say_when_they_fill(stage: Stage) -> None:
    said = plain(stage.visitor(stage.other).get("/activity"))
    assert "No node has pulled yet in this period." in said
    assert "No import has ended yet in this period." in said


def test_any_query_is_a_page(stage: Stage) -> None:
    for query in ("days=x", "days=99999999999", "organization=absent", "days=90&organization=%27%22%3C"):
        page = stage.operator.get(f"/activity?{query}").expect(200, 404).body.decode()
        assert not re.search(r"style=", page)
