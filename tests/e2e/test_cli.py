"""The command line, from import to pull, as an operator, a customer and a node type it."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from auth.secret import Secret
from registry.cli.client import Server, open_client
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Operator, Organization, unique
from tests.support.images import digest_of
from tests.support.upstream import Upstream

DONE, FAILED, WRONG_USAGE = 0, 1, 2


class CommandLine:
    """Runs `crisper` with the server's data folder, as on the server's own machine."""

    def __init__(self, data_dir: Path) -> None:
        self._env = {**os.environ, "CRISPER_DATA_DIR": str(data_dir)}

    def __call__(self, *argv: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CRISPER), *argv],
            input=typed,
            capture_output=True,
            text=True,
            env={**self._env, **env},
            timeout=60,
            check=False,
        )

    def json(self, *argv: str, typed: str = "", **env: str) -> Any:  # noqa: ANN401 - as printed
        done = self(*argv, "--json", typed=typed, **env)
        assert done.returncode == DONE, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def cli(crisper: CrisperServer) -> CommandLine:
    return CommandLine(crisper.data_dir)


def test_the_whole_journey_by_command(
    cli: CommandLine, upstream: Upstream, organization: Organization, tmp_path: Path
) -> None:
    image, mine = images.runnable(), ("--organization", organization.name)
    access = ("--username", str(upstream.username), "--password-stdin")
    group = cli.json(
        "image", "import", upstream.reference(image), *mine, *access, typed=f"{upstream.password}\n"
    )
    assert group["current_state"]["status"] == "stopped"
    assert group["container"]["hash"] == image.digest

    node = cli.json("node", "create", unique("node"))
    minted = cli.json("token", "mint", group["name"], "--node", node["node_id"], *mine)
    proof = {
        "CRISPER_NODE_ID": node["node_id"],
        "CRISPER_NODE_SECRET": node["node_secret"],
        "CRISPER_PULL_TOKEN": minted["token"],
    }
    pull = ("node", "pull", minted["image"]["reference"], "--plain-http", "--output")
    assert cli.json(*pull, str(tmp_path / "layout"), **proof)["reported"] is True
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert [manifest["digest"] for manifest in index["manifests"]] == [image.digest]
    for digest in (image.digest, *image.blobs):
        blob = tmp_path / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")
        assert digest_of(blob.read_bytes()) == digest

    assert cli.json("token", "show", minted["token_id"])["state"] == "done"
    (instance,) = cli.json("group", "instances", group["name"], *mine)
    assert (instance["state"], instance["known_by"]) == ("creating", "delivered")
    assert cli("token", "complete", minted["token_id"]).returncode == DONE
    again = cli(*pull, str(tmp_path / "again"), **proof)
    assert again.returncode == FAILED
    assert again.stderr.startswith("crisper: ")
    assert minted["token"] not in again.stdout + again.stderr


def test_a_failed_import_says_why_and_exits_with_1(
    cli: CommandLine, upstream: Upstream, organization: Organization
) -> None:
    image = upstream.reference(images.runnable())
    access = ("--username", str(upstream.username), "--password-stdin")
    done = cli(
        "image", "import", image, "--organization", organization.name, *access, typed="not-the-password\n"
    )
    assert done.returncode == FAILED
    assert "failed to authenticate" in done.stderr.lower()
    assert "not-the-password" not in done.stdout + done.stderr


def test_wrong_usage_exits_with_2(cli: CommandLine) -> None:
    assert cli("token", "mint").returncode == WRONG_USAGE
    assert cli("nonsense").returncode == WRONG_USAGE


def test_a_groups_life_and_its_owners_keys_by_command(
    cli: CommandLine, crisper: CrisperServer, upstream: Upstream
) -> None:
    customer = cli.json("organization", "create", unique("org"))
    mine = ("--organization", customer["name"])
    second = cli.json("organization", "key", "create", customer["name"], "--name", "ci")
    access = ("--username", str(upstream.username), "--password-stdin")
    typed = f"{upstream.password}\n"
    first, next_ = upstream.reference(images.runnable()), upstream.reference(images.multi_platform())
    group = cli.json("image", "import", first, *mine, *access, typed=typed, CRISPER_API_KEY=second["api_key"])
    name = group["name"]
    assert cli("group", "start", name, *mine).returncode == DONE
    minted = cli.json("token", "mint", name, "--node", crisper.operator.create_node().node_id, *mine)
    (instance,) = cli.json("group", "instances", name, *mine)
    assert (instance["state"], instance["version"]) == ("allocating", 1)
    assert cli("group", "reallocate", name, instance["id"], *mine).returncode == DONE
    assert cli.json("token", "show", minted["token_id"])["state"] == "revoked"
    updated = cli.json("group", "update", name, "--image", next_, *mine, *access, typed=typed)
    assert (updated["version"], updated["current_state"]["status"]) == (2, "deploying")
    assert cli("organization", "key", "revoke", customer["name"], second["key_id"]).returncode == DONE
    refused = cli("group", "stop", name, *mine, CRISPER_API_KEY=second["api_key"])
    assert refused.returncode == FAILED
    assert "missing or not valid" in refused.stderr


def test_webhooks_by_command(cli: CommandLine, organization: Organization) -> None:
    mine = ("--organization", organization.name)
    made = cli.json("webhook", "create", "https://example.com/hook", "--type", "group.*", *mine)
    assert made["secret"].startswith("whsec_")
    (shown,) = cli.json("webhook", "list", *mine)
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    refused = cli("webhook", "create", "https://10.0.0.1/hook", *mine)
    assert refused.returncode == FAILED
    assert "private or reserved" in refused.stderr
    assert cli("webhook", "delete", made["webhook_id"], *mine).returncode == DONE
    assert cli.json("webhook", "list", *mine) == []


def test_tokens_of_all_organizations_are_listed(
    cli: CommandLine, upstream: Upstream, organization: Organization
) -> None:
    mine, access = ("--organization", organization.name), ("--username", str(upstream.username))
    group = cli.json(
        *("image", "import", upstream.reference(images.runnable()), *mine, *access, "--password-stdin"),
        typed=f"{upstream.password}\n",
    )["name"]
    node = cli.json("node", "create", unique("node"))["node_id"]
    minted = [cli.json("token", "mint", group, "--node", node, *mine)["token_id"] for _ in range(2)]
    assert cli("token", "revoke", minted[0]).returncode == DONE
    listed = cli.json("token", "list", *mine, "--group", group)
    assert [(each["token_id"], each["state"]) for each in listed] == [
        (minted[1], "minted"),
        (minted[0], "revoked"),
    ]
    assert {each["container_group_name"] for each in listed} == {group}
    assert [each["token_id"] for each in cli.json("token", "list", "--node", node, "--limit", "1")] == minted[
        1:
    ]
    assert minted[1] in cli("token", "list").stdout
    assert cli("token", "list", "--group", "no-such-group").stdout.startswith("No tokens.")


def test_groups_of_all_organizations_are_listed(
    cli: CommandLine, crisper: CrisperServer, operator: Operator, organization: Organization
) -> None:
    other = operator.create_organization()
    mine = [crisper.customer(organization).create_group("127.0.0.1:1/acme/app:1") for _ in range(3)]
    theirs = crisper.customer(other).create_group("127.0.0.1:1/acme/app:1")
    listed = [(each["organization_name"], each["name"]) for each in cli.json("group", "list", "--all")]
    assert {(organization.name, name) for name in mine} | {(other.name, theirs)} <= set(listed)
    assert theirs in cli("group", "list", "--all").stdout
    assert other.name in cli("group", "list", "--all").stdout

    async def paged() -> list[str]:
        async with open_client(Server(crisper.url, Secret(crisper.operator_key), crisper.url)) as client:
            return [each["name"] for each in await client.group_list(organization.name, "default", 2)]

    assert asyncio.run(paged())[-3:] == mine


def test_a_group_is_edited_and_its_instance_restarted(
    cli: CommandLine, upstream: Upstream, organization: Organization
) -> None:
    mine, access = ("--organization", organization.name), ("--username", str(upstream.username))
    group = cli.json(
        *("image", "import", upstream.reference(images.runnable()), *mine, *access, "--password-stdin"),
        typed=f"{upstream.password}\n",
    )["name"]
    changes = (
        "--replicas",
        "3",
        "--env",
        "LEVEL=a=b",
        "--command",
        "/bin/app",
        "--command",
        "-v",
        "--memory",
        "2048",
    )
    changed = cli.json("group", "edit", group, *mine, *changes, "--display-name", "My app")
    assert (changed["replicas"], changed["display_name"]) == (3, "My app")
    assert changed["container"]["command"] == ["/bin/app", "-v"]
    assert changed["container"]["environment_variables"] == {"LEVEL": "a=b"}
    assert changed["container"]["resources"]["memory"] == 2048
    assert cli("group", "edit", group, *mine).returncode == WRONG_USAGE
    assert cli("group", "edit", group, *mine, "--env", "LEVEL").returncode == WRONG_USAGE

    node = cli.json("node", "create", unique("node"))["node_id"]
    cli.json("token", "mint", group, "--node", node, *mine)
    (instance,) = cli.json("instance", "list", group, *mine)
    for action in ("restart", "recreate", "reallocate"):
        assert cli("instance", action, group, instance["id"], *mine).returncode == DONE
    assert cli.json("instance", "list", group, *mine) == []
    assert cli("group", "delete", group, *mine).returncode == DONE


def test_a_node_gets_another_secret(cli: CommandLine, crisper: CrisperServer, upstream: Upstream) -> None:
    organization = crisper.operator.create_organization()
    upstream.push(images.runnable())
    group = crisper.customer(organization).import_image(
        upstream.reference(images.runnable()), **upstream.login
    )
    made = cli.json("node", "create", unique("node"))
    node, mine = made["node_id"], ("--organization", organization.name)
    minted = cli.json("token", "mint", group, "--node", node, *mine)
    other = cli.json("node", "rotate-secret", node)
    assert other["node_secret"] != made["node_secret"]
    assert cli.json("token", "show", minted["token_id"])["state"] == "revoked"
    (event,) = [
        each for each in crisper.operator.events(type="node.secret_changed") if each["node_id"] == node
    ]
    assert other["node_secret"] not in json.dumps(event)
    certified = cli.json("node", "create", unique("node"), "--binding", "certificate")["node_id"]
    refused = cli("node", "rotate-secret", certified)
    assert (refused.returncode, "offer" in refused.stderr) == (FAILED, True)
    assert cli("node", "delete", node).returncode == DONE
    assert "was deleted" in cli("node", "rotate-secret", node).stderr
