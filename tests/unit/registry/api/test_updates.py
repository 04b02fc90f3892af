import json
from typing import Any

import pytest

from registry.api.public.instances import ContainerGroupInstancePatch
from registry.api.public.patch import ContainerGroupPatch
from registry.api.public.prototype import ContainerGroupPrototype
from registry.errors import InvalidInputError

CREATED: dict[str, Any] = {
    "name": "app",
    "display_name": "The app",
    "autostart_policy": True,
    "replicas": 1,
    "restart_policy": "never",
    "country_codes": ["us", "de"],
    "container": {
        "image": "registry.example/app:1",
        "resources": {"cpu": 1, "memory": 1024, "shm_size": 128},
        "command": ["serve"],
        "environment_variables": {"MODE": "live", "replicas": "many", "LEVEL": "3"},
        "logging": {"splunk": {"host": "h", "token": "geheim"}},
    },
    "networking": {"auth": True, "port": 8080, "protocol": "http"},
    "liveness_probe": {"tcp": {"port": 1}, "period_seconds": 20},
}


def spec(**without: object) -> dict[str, Any]:
    document = {name: value for name, value in {**CREATED, **without}.items() if value is not None}
    return dict(ContainerGroupPrototype.read(json.dumps(document)).as_new_group().spec)


def patched(patch: object, before: dict[str, Any] | None = None) -> dict[str, Any]:
    change = ContainerGroupPatch.read(json.dumps(patch)).as_change(pull=False)
    return dict(change.amend(before or spec()))


def test_an_empty_patch_changes_nothing() -> None:
    assert patched({}) == spec()
    assert patched({"container": {}}) == spec()


def test_members_are_merged_and_a_null_takes_one_away() -> None:
    after = patched(
        {
            "replicas": 7,
            "display_name": None,
            "country_codes": None,
            "container": {
                "command": None,
                "environment_variables": {"MODE": "test", "NEW": "1", "replicas": None},
                "resources": {"memory": 2048, "shm_size": None},
            },
        }
    )
    assert after["replicas"] == 7
    assert "display_name" not in after
    assert "country_codes" not in after
    assert "command" not in after["container"]
    assert after["container"]["environment_variables"] == {"MODE": "test", "NEW": "1", "LEVEL": "3"}
    assert after["container"]["resources"] == {"cpu": 1, "memory": 2048}
    assert after["networking"] == spec()["networking"]


def test_probes_and_logging_are_replaced_whole() -> None:
    after = patched(
        {
            "liveness_probe": {"exec": {"command": ["true"]}},
            "container": {"logging": {"tcp": {"host": "logs.example", "port": 514}}},
        }
    )
    assert after["liveness_probe"] == {"exec": {"command": ["true"]}}
    assert after["container"]["logging"] == {"tcp": {"host": "logs.example", "port": 514}}


def test_what_a_group_cannot_do_without_stays_when_it_is_nulled() -> None:
    nulls = {"replicas": None, "networking": {"port": None}, "container": {"resources": {"cpu": None}}}
    assert patched(nulls) == spec()
    assert patched({"container": None, "networking": None}) == spec()


def test_the_image_and_its_credentials_are_not_kept_in_the_spec() -> None:
    container = {
        "image": "registry.example/app:2",
        "registry_authentication": {"basic": {"username": "ann", "password": "geheim"}},
    }
    patch = ContainerGroupPatch.read(json.dumps({"container": container}))
    change = patch.as_change(pull=True)
    assert (change.image, change.pull) == ("registry.example/app:2", True)
    assert change.registry_authentication == {"basic": {"username": "ann", "password": "geheim"}}
    assert change.amend(spec()) == spec()
    assert "geheim" not in repr((patch, change))


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"replicas": 501}, "replicas"),
        ({"replicas": "3"}, "replicas"),
        ({"container": {"image": "i" * 1025}}, "container.image"),
        ({"container": {"resources": {"cpu": "4"}}}, "container.resources.cpu"),
        ({"container": {"environment_variables": {"A": "x" * 131_073}}}, "container.environment_variables.A"),
        ({"networking": {"port": "80"}}, "networking.port"),
        ({"autostart_policy": True}, "autostart_policy"),
        ({"container": {"immage": "app:2"}}, "container.immage"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_field(patch: object, field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        patched(patch)
    assert refused.value.fields.keys() == {field}


def test_patches_cannot_grow_a_group_without_bound() -> None:
    grown = spec()
    for n in range(8):
        grown = patched({"container": {"environment_variables": {f"A{n}": "x" * 130_000}}}, grown)
    with pytest.raises(InvalidInputError, match="larger than 1048576 bytes"):
        patched({"container": {"environment_variables": {"A8": "x" * 130_000}}}, grown)


def test_patches_cannot_add_environment_variables_without_bound() -> None:
    full = patched({"container": {"environment_variables": {f"A{n}": "" for n in range(990)}}})
    with pytest.raises(InvalidInputError) as refused:
        patched({"container": {"environment_variables": {f"B{n}": "" for n in range(990)}}}, full)
    assert refused.value.fields.keys() == {"container.environment_variables"}


def test_networking_cannot_be_added_later() -> None:
    with pytest.raises(InvalidInputError) as refused:
        patched({"networking": {"port": 80}}, spec(networking=None))
    assert refused.value.fields.keys() == {"networking"}


@pytest.mark.parametrize("cost", [-1, 100_001, "7"])
def test_an_instances_cost_is_bounded(cost: object) -> None:
    with pytest.raises(InvalidInputError):
        ContainerGroupInstancePatch.read(json.dumps({"deletion_cost": cost}))
