"""Every registry family that customers use, under its real name, through a real server and an outbound proxy.

docker-registry stands behind all names, with htpasswd or with tokens; and further:

| registry | what is emulated | login |
|---|---|---|
| Docker Hub | realm on another host; blobs redirected to an origin that refuses Authorization | PAT |
| GHCR | refuses at the token step | PAT, and nobody |
| Amazon ECR | htpasswd; moto's API with its SigV4 and policy checks on | access key |
| ECR Public | tokens for anybody | nobody, and an access key that stays here |
| Azure | `/oauth2/exchange` | admin, and Entra |
| Google | | a key file of 2 KB, and an access token |
| Quay | | `org+robot` |
| GitLab | realm on another host | deploy token |
| Harbor | a POST to the realm is a 405 | `robot$ci` |
| self-hosted | htpasswd; a CA of its own; a realm that the operator names; throttling (429) | robot |
"""

import base64
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import redis

from tests.support.crisper import CrisperServer, Customer
from tests.support.http import request
from tests.support.moto_server import PASSWORD, AccessKey
from tests.support.provider_farm import CDN, ECR, ECR_API, PROXY_PASSWORD, REPOSITORY, Farm, provider_farm
from tests.support.traces import secrets_found

pytestmark = pytest.mark.timeout(400)  # all imports run in the setup of the first test

Authentication = dict[str, dict[str, str]]


def canary(name: str) -> str:
    return f"canary-{name}-{uuid.uuid4().hex}"


SECRETS = {
    name: canary(name)
    for name in (
        "hub",
        "ghcr",
        "acr",
        "quay",
        "gitlab",
        "harbor",
        "selfhosted",
        "named-realm",
        "wrong",
        "stray",
    )
}
GOOGLE_KEY = json.dumps(
    {"type": "service_account", "private_key": canary("google") * 40, "client_email": "puller@acme.iam"}
)
GOOGLE_TOKEN = f"ya29.{canary('google-token')}"


def _jwt(claims: dict[str, str]) -> str:
    parts = (json.dumps({"alg": "RS256"}), json.dumps(claims), canary("signature"))
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


ENTRA_TOKEN = _jwt({"aud": "https://containerregistry.azure.net", "tid": "tenant-of-acme"})
ENTRA_USER = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Case:
    """An import, and how it has to end.

    Attributes:
        provider: The metric's label.
        failure: The reason and a part of the sentence; None succeeds.
    """

    image: str
    authentication: Authentication | None
    provider: str
    failure: tuple[str, str] | None = None


def basic(username: str, password: str) -> Authentication:
    return {"basic": {"username": username, "password": password}}


def cases(private: str, access_key: AccessKey) -> dict[str, Case]:
    """Return every case; the private registry's host and the access key are known once they run."""
    key = {"access_key_id": access_key.key_id, "secret_access_key": access_key.secret}
    selfhosted = basic("robot", SECRETS["selfhosted"])
    refused = ("failed to authenticate", "refuses these credentials")
    return {
        "Docker Hub, PAT": Case(
            "app:1",
            {"docker_hub": {"username": "acme", "personal_access_token": SECRETS["hub"]}},
            "docker_hub",
        ),
        "GHCR, PAT": Case(f"ghcr.io/{REPOSITORY}:1", basic("acme", SECRETS["ghcr"]), "ghcr"),
        "GHCR, public": Case(f"ghcr.io/{REPOSITORY}:1", None, "ghcr"),
        "GHCR, refused at the token step": Case(
            f"ghcr.io/{REPOSITORY}:1", basic("acme", SECRETS["wrong"]), "ghcr", refused
        ),
        "ECR, access key": Case(f"{ECR}/{REPOSITORY}:1", {"aws_ecr": key}, "ecr"),
        "ECR, wrong secret": Case(
            f"{ECR}/{REPOSITORY}:1",
            {"aws_ecr": {**key, "secret_access_key": SECRETS["wrong"]}},
            "ecr",
            ("failed to authenticate", f"{ECR_API} refuses this access key"),
        ),
        "ECR, its own password": Case(
            f"{ECR}/{REPOSITORY}:1", basic("AWS", "123456789012-auth-token"), "ecr"
        ),
        "ECR Public": Case(f"public.ecr.aws/{REPOSITORY}:1", None, "ecr_public"),
        "ECR Public, key": Case(f"public.ecr.aws/{REPOSITORY}:1", {"aws_ecr": key}, "ecr_public"),
        "ACR, admin": Case(f"acme.azurecr.io/{REPOSITORY}:1", basic("acme", SECRETS["acr"]), "acr"),
        "ACR, Entra": Case(f"acme.azurecr.io/{REPOSITORY}:1", basic(ENTRA_USER, ENTRA_TOKEN), "acr"),
        "ACR, another Entra": Case(
            f"acme.azurecr.io/{REPOSITORY}:1",
            basic(ENTRA_USER, _jwt({"aud": "https://management.azure.com"})),
            "acr",
            ("failed to authenticate", "refuses this Entra token"),
        ),
        "GAR, key": Case(
            f"us-docker.pkg.dev/{REPOSITORY}:1", {"gcp_gar": {"service_key": GOOGLE_KEY}}, "gar"
        ),
        "GCR, token": Case(f"gcr.io/{REPOSITORY}:1", {"gcp_gcr": {"service_key": GOOGLE_TOKEN}}, "gcr"),
        "Quay, robot": Case(f"quay.io/{REPOSITORY}:1", basic("acme+puller", SECRETS["quay"]), "quay"),
        "GitLab": Case(f"registry.gitlab.com/{REPOSITORY}:1", basic("deploy-7", SECRETS["gitlab"]), "gitlab"),
        "Harbor, robot": Case(
            f"harbor.example.com/{REPOSITORY}:1", basic("robot$ci", SECRETS["harbor"]), "other"
        ),
        "self-hosted": Case(f"selfhosted.example.com/{REPOSITORY}:1", selfhosted, "other"),
        "self-hosted, wrong": Case(
            f"selfhosted.example.com/{REPOSITORY}:1", basic("robot", SECRETS["wrong"]), "other", refused
        ),
        "own CA, private address": Case(f"{private}/{REPOSITORY}:1", selfhosted, "other"),
        "throttled": Case(f"throttled.example.com/{REPOSITORY}:1", selfhosted, "other"),
        "realm that the operator names": Case(
            f"registry.example.com/{REPOSITORY}:1", basic("robot", SECRETS["named-realm"]), "other"
        ),
        "realm that nobody names": Case(
            f"stray.example.com/{REPOSITORY}:1",
            basic("robot", SECRETS["stray"]),
            "other",
            ("failed to authenticate", "not known to belong"),
        ),
    }


def admit(farm: Farm) -> None:
    """Tell each realm whom it knows."""
    farm.realms.entra_token = ENTRA_TOKEN
    farm.realms.admitted = {
        "acme.azurecr.io": {f"acme:{SECRETS['acr']}", f"{ENTRA_USER}:{farm.realms.refresh_token}"},
        "auth.docker.io": {f"acme:{SECRETS['hub']}"},
        "ghcr.io": {f"acme:{SECRETS['ghcr']}"},
        "us-docker.pkg.dev": {f"_json_key:{GOOGLE_KEY}"},
        "gcr.io": {f"oauth2accesstoken:{GOOGLE_TOKEN}"},
        "quay.io": {f"acme+puller:{SECRETS['quay']}"},
        "gitlab.com": {f"deploy-7:{SECRETS['gitlab']}"},
        "harbor.example.com": {f"robot$ci:{SECRETS['harbor']}"},
        "tokens.example.net": {f"robot:{SECRETS['named-realm']}"},
    }


@dataclass
class Outcome:
    """What the matrix left behind."""

    farm: Farm
    server: CrisperServer
    groups: dict[str, dict[str, Any]]
    metrics: str
    redis_keys: list[str]
    redis_dump: bytes


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """Run all cases at once on one server, and stop it."""
    folder = Path(mkdtemp(prefix="providers-"))
    folder.chmod(0o755)
    with provider_farm(folder, {"robot": SECRETS["selfhosted"]}) as farm:
        admit(farm)
        environment = {
            **farm.environment,
            "CRISPER_LOG_LEVEL": "debug",
            "CRISPER_IMPORT_JOBS": "8",
            "CRISPER_SHARED_REGISTRIES": "",  # every import has to download
        }
        server = CrisperServer(folder / "crisper", env=environment)
        with server:
            groups = _import_all(server, cases(farm.private, farm.key))
            metrics = request("GET", f"{server.url}/metrics").expect(200).body.decode()
            keys, dump = _ledger(server)
        yield Outcome(farm, server, groups, metrics, keys, dump)
    shutil.rmtree(folder)


def _import_all(server: CrisperServer, wanted: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Import each case as an organization of its own, so that none profits of another."""
    started: dict[str, tuple[Customer, str]] = {}
    for name, case in wanted.items():
        customer = server.customer(server.operator.create_organization())
        started[name] = customer, customer.create_group(case.image, authentication=case.authentication)
    return {name: customer.wait_settled(group) for name, (customer, group) in started.items()}


def _ledger(server: CrisperServer) -> tuple[list[str], bytes]:
    """Return the names of all keys in Redis, and all of its content."""
    with redis.Redis(unix_socket_path=str(_socket(server))) as client:
        keys = sorted(client.scan_iter())
        return [key.decode() for key in keys], b"\n".join(client.dump(key) or b"" for key in keys)


def _socket(server: CrisperServer) -> Path:
    return next(path for path in server.data_dir.rglob("*") if path.is_socket())


@pytest.mark.parametrize("name", cases("", AccessKey("", "")))
def test_an_import_ends_as_it_has_to(outcome: Outcome, name: str) -> None:
    case = cases(outcome.farm.private, outcome.farm.key)[name]
    group = outcome.groups[name]
    state = group["current_state"]
    if case.failure is None:
        assert state["status"] == "stopped", state
        assert group["container"]["hash"] == outcome.farm.image.root
        return
    reason, sentence = case.failure
    assert state["status"] == "failed"
    assert state["description"].startswith(reason)
    assert sentence in state["description"]


def test_blobs_come_from_the_second_origin_without_authorization(outcome: Outcome) -> None:
    lines = outcome.farm.cdn_log.read_text().splitlines()
    assert len(lines) == len(outcome.farm.image.blobs)
    assert all(line.startswith("GET /docker/registry/v2/blobs/") for line in lines)
    assert all(line.endswith('"-" 200') for line in lines)


def test_realms_are_asked_as_they_want_it(outcome: Outcome) -> None:
    asked = outcome.farm.realms.seen
    assert {(method, path) for _, method, path in asked if method != "GET"} == {("POST", "/oauth2/exchange")}
    assert sum(host == "tokens.example.net" for host, _, _ in asked) == 1  # by the registry it is named for


def test_the_throttled_registry_did_throttle(outcome: Outcome) -> None:
    assert "limiting requests" in outcome.farm.log.read_text()


def test_all_went_through_the_proxy_but_what_the_operator_lists(outcome: Outcome) -> None:
    asked = set(outcome.farm.proxy.asked)
    assert {f"{ECR}:443", f"{CDN}:443", f"{ECR_API}:443", "auth.docker.io:443"} <= asked
    assert not any(target.startswith("127.0.0.1") for target in asked)


def test_ends_are_counted_by_family_and_reason(outcome: Outcome) -> None:
    expected = Counter(
        (case.provider, case.failure[0] if case.failure else "done")
        for case in cases("", AccessKey("", "")).values()
    )
    for (provider, reason), count in expected.items():
        line = f'crisper_imports_total{{outcome="{reason}",provider="{provider}"}} {count}.0'
        assert line in outcome.metrics


def test_no_credential_is_found_anywhere(outcome: Outcome) -> None:
    secrets = {
        **SECRETS,
        "AWS secret": outcome.farm.key.secret,
        "AWS password": PASSWORD,
        "Google key": GOOGLE_KEY,
        "Google private key": json.loads(GOOGLE_KEY)["private_key"],
        "Google token": GOOGLE_TOKEN,
        "Entra token": ENTRA_TOKEN,
        "Azure refresh token": outcome.farm.realms.refresh_token,
        "proxy": PROXY_PASSWORD,
    }
    server = outcome.server
    left = server.data_dir.parent / "left"
    left.mkdir()
    (left / "metrics").write_text(outcome.metrics)
    (left / "redis").write_bytes(outcome.redis_dump)
    (left / "groups").write_text(json.dumps(outcome.groups))
    assert secrets_found([server.data_dir, server.tmp_dir, server.log, left], secrets) == []
    assert not [name for name in outcome.redis_keys if name.startswith("credential")]
