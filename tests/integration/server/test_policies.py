"""Policies for signatures: operator API, command line, and what imports, logs and images show of them."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Organization
from tests.support.distribution import docker_registry, htpasswd, make_image, push
from tests.support.http import basic
from tests.support.signing import Cosign, add_simple, encoded, new_key, public_pem, sign, simple_payload
from tests.support.upstream import Upstream

USER, PASSWORD = "customer", "throwaway-password"
KEY = new_key()
SIGNED = make_image([b"signed"])
UNSIGNED = make_image([b"unsigned"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, registry: str) -> Iterator[CrisperServer]:
    folder = tmp_path_factory.mktemp("policies") / "server"
    with CrisperServer(folder, insecure_registries=[registry]) as started:
        yield started


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private registry with a signed and an unsigned image."""
    folder = tmp_path_factory.mktemp("registry")
    headers = {"Authorization": basic(USER, PASSWORD)}
    payload = simple_payload(SIGNED.root)

    async def fill() -> tuple[AsyncIterator[str], str]:
        opened = docker_registry(folder, await htpasswd(folder, USER, PASSWORD))
        host = await opened.__aenter__()
        await push(host, "acme/signed", "v1", SIGNED, headers)
        for tag, artifact in add_simple(SIGNED.root, (payload, sign(KEY, payload))).items():
            await push(host, "acme/signed", tag, artifact, headers)
        await push(host, "acme/unsigned", "v1", UNSIGNED, headers)
        return opened, host  # type: ignore[return-value]

    with asyncio.Runner() as runner:
        opened, host = runner.run(fill())
        yield host
        runner.run(opened.__aexit__(None, None, None))  # type: ignore[attr-defined]


@pytest.fixture
def organization(server: CrisperServer) -> Organization:
    return server.operator.create_organization()


def policy(registry: str, **changes: object) -> dict[str, Any]:
    return {
        "pattern": f"{registry}/acme/*",
        "mode": "enforce",
        "require": "any",
        "rules": [{"type": "cosign-key", "key": public_pem(KEY)}],
        **changes,
    }


def set_policies(server: CrisperServer, organization: Organization, *policies: dict[str, Any]) -> None:
    path = f"/organizations/{organization.name}/policies"
    answer = server.operator.call("PUT", path, {"policies": list(policies)}).expect(200).json()
    assert answer == {"policies": [with_defaults(each) for each in policies]}
    assert server.operator.call("GET", path).expect(200).json() == answer


def with_defaults(policy: dict[str, Any]) -> dict[str, Any]:
    optional = {
        "cosign-keyless": {"trusted_root": None},
        "notation": {"identity": None},
        "slsa-provenance": dict.fromkeys(("source", "key", "issuer", "identity", "trusted_root")),
    }
    rules = [optional.get(rule["type"], {}) | rule for rule in policy["rules"]]
    return policy | {"rules": rules}


def imported(server: CrisperServer, organization: Organization, image: str) -> dict[str, Any]:
    customer = server.customer(organization)
    name = customer.create_group(image, username=USER, password=PASSWORD)
    return customer.wait_settled(name)


def test_an_enforced_policy_imports_signed_images_only(
    server: CrisperServer, organization: Organization, registry: str
) -> None:
    set_policies(server, organization, policy(registry))
    refused = imported(server, organization, f"{registry}/acme/unsigned:v1")["current_state"]
    assert refused["status"] == "failed"
    assert refused["description"].startswith(
        f"failed to pull: the image is not signed by any of {organization.name}'s keys (no signatures found)"
    )
    group = imported(server, organization, f"{registry}/acme/signed:v1")
    assert group["current_state"]["status"] == "stopped"
    listed = f"/images?organization_name={organization.name}&digest={SIGNED.root}"
    [image] = server.operator.call("GET", listed).expect(200).json()["items"]
    assert image["verdict"]["trusted"] is True
    assert image["verdict"]["mode"] == "enforce"
    assert image["verdict"]["signers"][0].startswith("cosign key sha256:")
    assert [event["detail"]["sentence"] for event in events(server, organization, "group.imported")] == [
        image["verdict"]["sentence"]
    ]


def events(server: CrisperServer, organization: Organization, type_: str) -> list[dict[str, Any]]:
    return server.operator.events(organization_name=organization.name, type=type_)


def test_a_warning_policy_imports_the_image_and_its_log_says_so(
    server: CrisperServer, organization: Organization, registry: str
) -> None:
    set_policies(server, organization, policy(registry, mode="warn"))
    group = imported(server, organization, f"{registry}/acme/unsigned:v1")
    assert group["current_state"]["status"] == "stopped"
    logs = server.customer(organization).call("GET", f"{group['name']}/system-logs").expect(200).json()
    texts = [entry["event_name"] for entry in logs["items"]]
    assert any("The image is stored: the image is not signed by any of" in text for text in texts)


def test_a_revoked_key_refuses_the_next_import_and_keeps_the_stored_version(
    server: CrisperServer, organization: Organization, registry: str
) -> None:
    set_policies(server, organization, policy(registry))
    group = imported(server, organization, f"{registry}/acme/signed:v1")
    other = {"type": "cosign-key", "key": public_pem(new_key())}
    set_policies(server, organization, policy(registry, rules=[other]))
    customer = server.customer(organization)
    login = {"basic": {"username": USER, "password": PASSWORD}}
    customer.patch(group["name"], {"container": {"registry_authentication": login}})
    after = customer.wait_settled(group["name"])
    assert after["current_state"]["status"] == "stopped"
    assert (
        "version 1 is served. Reason: the image is not signed by any" in after["current_state"]["description"]
    )
    assert (
        server.operator.mint(organization, group["name"], server.operator.create_node()).digest == SIGNED.root
    )


def test_without_a_matching_policy_nothing_is_checked(
    server: CrisperServer, organization: Organization, registry: str
) -> None:
    set_policies(server, organization, policy(registry, pattern="ghcr.io/*"))
    group = imported(server, organization, f"{registry}/acme/unsigned:v1")
    assert group["current_state"]["status"] == "stopped"
    listed = f"/images?organization_name={organization.name}"
    [image] = server.operator.call("GET", listed).expect(200).json()["items"]
    assert image["verdict"] is None


def test_a_change_of_policies_is_an_event_without_keys(
    server: CrisperServer, organization: Organization, registry: str
) -> None:
    keyless = {"type": "cosign-keyless", "issuer": "https://accounts.example", "identity": "*@acme.example"}
    provenance = {"type": "slsa-provenance", "builder": "https://*", "key": public_pem(KEY)}
    set_policies(
        server, organization, policy(registry), policy(registry, pattern="*", rules=[keyless, provenance])
    )
    [event] = events(server, organization, "organization.policies_changed")
    assert event["detail"] == {
        "policies": [
            {"pattern": f"{registry}/acme/*", "mode": "enforce", "require": "any", "rules": ["cosign-key"]},
            {
                "pattern": "*",
                "mode": "enforce",
                "require": "any",
                "rules": ["cosign-keyless", "slsa-provenance"],
            },
        ]
    }
    set_policies(server, organization)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rules": [{"type": "cosign-key", "key": "no key"}]}, "policies.0.rules.0"),
        ({"rules": [{"type": "notation", "certificate": "no certificate"}]}, "policies.0.rules.0"),
        ({"rules": [{"type": "gpg", "key": "any"}]}, "policies.0.rules.0"),
        (
            {
                "rules": [
                    {"type": "cosign-keyless", "issuer": "*", "identity": "*", "trusted_root": {"tlogs": 1}}
                ]
            },
            "policies.0.rules.0",
        ),
        ({"rules": [{"type": "slsa-provenance", "builder": "*"}]}, "policies.0.rules.0"),
        (
            {"rules": [{"type": "slsa-provenance", "key": public_pem(KEY)}]},
            "policies.0.rules.0.slsa-provenance.builder",
        ),
        (
            {"rules": [{"type": "cosign-key", "key": "any", "kms": "any"}]},
            "policies.0.rules.0.cosign-key.kms",
        ),
        ({"mode": "off"}, "policies.0.mode"),
        ({"require": "most"}, "policies.0.require"),
        ({"pattern": ""}, "policies.0.pattern"),
    ],
)
def test_invalid_policies_are_refused_by_field(
    server: CrisperServer, organization: Organization, registry: str, changes: dict[str, Any], field: str
) -> None:
    path = f"/organizations/{organization.name}/policies"
    refused = server.operator.call("PUT", path, {"policies": [policy(registry, **changes)]}).expect(400)
    assert field in refused.json()["errors"]
    assert server.operator.call("GET", path).expect(200).json() == {"policies": []}


def test_policies_of_an_unknown_organization_are_404(server: CrisperServer) -> None:
    server.operator.call("GET", "/organizations/nobody/policies").expect(404)
    server.operator.call("PUT", "/organizations/nobody/policies", {"policies": []}).expect(404)
    server.operator.call("POST", "/organizations/nobody/policies/test", {"image": "a"}).expect(404)


def crisper(server: CrisperServer, *argv: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CRISPER_DATA_DIR": str(server.data_dir)}
    return subprocess.run(
        [str(CRISPER), *argv], input=typed, capture_output=True, text=True, env=env, timeout=60, check=False
    )


def test_an_image_is_tested_without_an_import_by_command(
    server: CrisperServer, organization: Organization, registry: str, tmp_path: Path
) -> None:
    file = tmp_path / "policies.json"
    file.write_text(json.dumps({"policies": [policy(registry)]}))
    name = organization.name
    assert "a cosign key" in crisper(server, "policy", "set", name, str(file)).stdout
    assert json.loads(crisper(server, "policy", "show", name, "--json").stdout) == json.loads(
        file.read_text()
    )

    def test(image: str) -> subprocess.CompletedProcess[str]:
        access = ("--username", USER, "--password-stdin")
        command = ("policy", "test", f"{registry}/acme/{image}:v1", "--organization", name, *access)
        return crisper(server, *command, typed=PASSWORD)

    accepted, refused = test("signed"), test("unsigned")
    assert accepted.returncode == 0, accepted.stderr
    assert "signed by cosign key sha256:" in accepted.stdout
    assert refused.returncode == 1
    assert "is not signed by any of" in refused.stdout
    assert "an import of this image would fail" in refused.stderr
    missing = test("nothing")
    assert missing.returncode == 1
    assert "The image cannot be tested" in missing.stderr
    listed = f"/images?organization_name={name}"
    assert server.operator.call("GET", listed).expect(200).json()["items"] == []
    assert PASSWORD not in server.log.read_text()
    imported(server, organization, f"{registry}/acme/signed:v1")
    shown = crisper(server, "image", "show", SIGNED.root, "--organization", name)
    assert "signed by cosign key sha256:" in shown.stdout, shown.stderr
    assert "no image has the digest" in crisper(server, "image", "show", UNSIGNED.root, "-o", name).stderr
    assert "No policies" in crisper(server, "policy", "set", name, "--none").stdout


@pytest.mark.full
@pytest.mark.timeout(3600)  # builds cosign, if no test did before
@pytest.mark.parametrize("version", [2, 3])
def test_a_node_verifies_again_with_cosign_in_its_session(tmp_path: Path, version: int) -> None:
    cosign, image = Cosign(version, tmp_path), images.runnable()
    ours = cosign.key("ours")
    cosign.key("theirs")
    with Upstream.anonymous(tmp_path / "upstream") as upstream:
        upstream.push(image)
        cosign.sign("ours", f"{upstream.reference(image).rpartition(':')[0]}@{image.digest}")
        with CrisperServer(tmp_path / "server", insecure_registries=[upstream.host]) as server:
            organization = server.operator.create_organization()
            rules = [{"type": "cosign-key", "key": ours}]
            set_policies(server, organization, policy(upstream.host, pattern="*", rules=rules))
            group = server.customer(organization).import_image(upstream.reference(image))
            node = server.operator.create_node()
            token = server.operator.mint(organization, group, node)
            login = encoded(f"{token.username}:{token.password(node)}".encode())
            assert cosign.verifies("ours", token.reference, {server.host: login})
            assert not cosign.verifies("theirs", token.reference, {server.host: login})
            assert server.operator.token_state(token) == "active"
