"""A data folder of version 0.1.0 opens with this version, and nothing in it is lost.

A server of 0.1.0 wrote `tests/data/data-folder-0.1.0.tar.xz` on embedded defaults. It has an organization
with a started group of two image versions, a group whose import failed, two nodes (one deleted), a webhook,
and `facts.json` with the keys that were shown once.
"""

import gzip
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.crisper import CRISPER, CrisperServer, Node, Organization, PullToken
from tests.support.http import basic
from tests.support.processes import run
from tests.support.pulling import Puller, PullFailedError

ARCHIVE = Path(__file__).parent.parent.parent / "data" / "data-folder-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CrisperServer, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("upgraded")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)  # noqa: S202 (an archive of this repository)
    server = CrisperServer(folder)
    with server:
        yield server, json.loads((folder / "facts.json").read_text())


def organization(facts: dict[str, Any]) -> Organization:
    return Organization(facts["organization"], facts["api_key"])


def mint(server: CrisperServer, facts: dict[str, Any], variant: str) -> tuple[PullToken, Node]:
    node = Node(facts["node_id"], facts["node_secret"])
    return server.operator.mint(organization(facts), "app", node, variant=variant), node


@pytest.mark.parametrize("variant", ["original", "zstd"])
def test_a_stored_image_is_pulled(old: tuple[CrisperServer, dict[str, Any]], variant: str) -> None:
    server, facts = old
    token, node = mint(server, facts, variant)
    assert token.variant == variant
    assert (token.digest == facts["digest"]) is (variant == "original")
    with closing(Puller(server.url)) as puller:
        assert puller.pull(token, node) > 0


def test_a_stored_layer_has_the_bytes_that_were_imported(old: tuple[CrisperServer, dict[str, Any]]) -> None:
    server, facts = old
    token, node = mint(server, facts, "original")
    puller = Puller(server.url)
    login = {"Authorization": basic(token.username, token.password(node))}
    _, answer = puller.get("/token?service=crisper&scope=repository:acme/default/app:pull", login)
    bearer = {"Authorization": f"Bearer {json.loads(answer)['token']}"}
    _, document = puller.get(f"/v2/acme/default/app/manifests/{token.digest}", bearer)
    _, layer = puller.get(f"/v2/acme/default/app/blobs/{json.loads(document)['layers'][0]['digest']}", bearer)
    assert facts["hello"].encode() in gzip.decompress(layer)
    puller.close()


def test_a_node_that_was_deleted_gets_no_token(old: tuple[CrisperServer, dict[str, Any]]) -> None:
    server, facts = old
    body = {
        "organization_name": "acme",
        "project_name": "default",
        "container_group_name": "app",
        "node_id": "pc-2",
    }
    assert server.operator.call("POST", "/pull-tokens", body).status == 409
    token, _ = mint(server, facts, "original")
    with closing(Puller(server.url)) as puller, pytest.raises(PullFailedError, match=r"40[13]"):
        puller.pull(token, Node(facts["node_id"], "not-the-secret"))


def test_groups_keys_webhooks_and_events_are_kept(old: tuple[CrisperServer, dict[str, Any]]) -> None:
    server, facts = old
    customer = server.customer(organization(facts))
    group, broken = customer.group("app"), customer.group("broken")
    assert group["version"] == 2
    assert group["container"]["hash"] == facts["digest"]
    assert broken["current_state"]["status"] == "failed"
    webhooks = server.operator.call("GET", "/organizations/acme/webhooks").expect(200).json()["items"]
    assert [webhook["url"] for webhook in webhooks] == ["https://hooks.example.com/crisper"]
    events = server.operator.events()
    assert len(events) >= facts["events"]
    assert {"group.created", "group.imported", "group.failed", "token.minted"} <= {
        event["type"] for event in events
    }


def test_a_group_of_the_old_version_is_deleted(old: tuple[CrisperServer, dict[str, Any]]) -> None:
    server, facts = old
    customer = server.customer(organization(facts))
    customer.delete("broken")
    names = [event["type"] for event in server.operator.events(type="group.deleted")]
    assert names == ["group.deleted"]


def test_the_doctor_finds_nothing_wrong(old: tuple[CrisperServer, dict[str, Any]]) -> None:
    server, _ = old
    run([str(CRISPER), "doctor", "--data-dir", str(server.data_dir)]).check()
