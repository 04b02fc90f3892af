"""The compose file, the systemd units and the Dockerfile name what exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.config import Role, Settings
from tests.support.processes import run

DEPLOY = Path(__file__).parents[3] / "deploy"
KNOWN = {f"CRISPER_{name.upper()}" for name in Settings.model_fields}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVERS = {
    name: each for name, each in COMPOSE["services"].items() if "CRISPER_ROLES" in each.get("environment", {})
}


def test_the_compose_file_runs_every_role_more_than_once_where_it_matters() -> None:
    roles = [role for each in SERVERS.values() for role in each["environment"]["CRISPER_ROLES"].split(",")]
    assert set(roles) <= {role.value for role in Role}
    assert roles.count("pull") == roles.count("token") == roles.count("import") == 2
    assert roles.count("api") == 1


def test_every_setting_of_the_compose_file_exists_and_asks_for_production() -> None:
    for each in SERVERS.values():
        given = {name for name in each["environment"] if name.startswith("CRISPER_")}
        assert given <= KNOWN
        assert each["environment"]["CRISPER_ENV"] == "production"


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.search(r":v?\d", service["image"]) or service["image"] == "crisper-registry"


def test_every_file_that_the_compose_file_mounts_is_shipped_or_made(tmp_path: Path) -> None:
    run(["sh", str(DEPLOY / "tls.sh"), str(tmp_path), "registry.example.com"]).check()
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            made = tmp_path / source.removeprefix("./tls/")
            assert not source.startswith(".") or made.exists() or (DEPLOY / source).exists(), source
    for authority, name in (("servers", "server"), ("proxies", "proxy"), ("servers", "registry")):
        trusted = ["-CAfile", str(tmp_path / f"{authority}-ca.crt"), str(tmp_path / f"{name}.crt")]
        run(["openssl", "verify", *trusted]).check()


def test_each_server_of_the_compose_file_mounts_the_keys_of_its_roles_alone() -> None:
    mounted = {}
    for name, service in SERVERS.items():
        volumes = [volume for volume in service["volumes"] if isinstance(volume, dict)]
        whole = {volume.partition(":")[0] for volume in service["volumes"] if isinstance(volume, str)}
        parts = {volume["volume"]["subpath"] for volume in volumes if volume["source"] == "keys"}
        mounted[name.partition("-")[0]] = {"everything"} if "keys" in whole else parts
    assert mounted == {"pull": {"signing-keys", "keyring"}, "api": {"everything"}, "import": {"keyring"}}


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service"), key=str))
def test_every_setting_of_a_unit_exists(unit: Path) -> None:
    named = set(re.findall(r"^Environment=(CRISPER_[A-Z_]+)=", unit.read_text(), re.MULTILINE))
    assert named <= KNOWN
