"""The scheduler's fields: any value of the right JSON type, within what protects the server."""

import json
from typing import Any

import pytest

from registry.api.public.patch import ContainerGroupPatch
from registry.api.public.prototype import ContainerGroupPrototype
from registry.api.public.shapes import MAX_ITEMS, MAX_TEXT_LENGTH
from registry.errors import InvalidInputError
from tests.support.group_documents import HTTP, MINIMAL, NETWORKING, QUEUE, TIMES

CONTAINER = MINIMAL["container"]
RESOURCES = CONTAINER["resources"]
LONG = "x" * (MAX_TEXT_LENGTH + 1)


def with_container(**members: object) -> dict[str, Any]:
    return {**MINIMAL, "container": {**CONTAINER, **members}}


def with_resources(**members: object) -> dict[str, Any]:
    return with_container(resources={**RESOURCES, **members})


def faults(document: object, model: Any = ContainerGroupPrototype) -> dict[str, list[str]]:  # noqa: ANN401
    with pytest.raises(InvalidInputError) as refused:
        model.read(json.dumps(document))
    return dict(refused.value.fields)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**MINIMAL, "restart_policy": None}, "restart_policy"),
        ({**MINIMAL, "country_codes": "us"}, "country_codes"),
        ({**MINIMAL, "country_codes": [1]}, "country_codes.0"),
        ({**MINIMAL, "display_name": 7}, "display_name"),
        ({**MINIMAL, "scheduled-scaling-enabled": "no"}, "scheduled-scaling-enabled"),
        ({**MINIMAL, "networking": []}, "networking"),
        ({**MINIMAL, "networking": {**NETWORKING, "auth": 1}}, "networking.auth"),
        ({**MINIMAL, "networking": {**NETWORKING, "port": "80"}}, "networking.port"),
        ({**MINIMAL, "networking": {**NETWORKING, "port": 80.5}}, "networking.port"),
        ({**MINIMAL, "networking": {"auth": True, "port": 1}}, "networking.protocol"),
        ({**MINIMAL, "queue_connection": {**QUEUE, "path": None}}, "queue_connection.path"),
        ({**MINIMAL, "startup_probe": {"http": {**HTTP, "port": True}}}, "startup_probe.http.port"),
        ({**MINIMAL, "startup_probe": {**TIMES, "period_seconds": "2"}}, "startup_probe.period_seconds"),
        ({**MINIMAL, "startup_probe": {**TIMES, "period_seconds": 2**63}}, "startup_probe.period_seconds"),
        ({**MINIMAL, "startup_probe": {"exec": {"command": "true"}}}, "startup_probe.exec.command"),
        (with_container(command="serve"), "container.command"),
        (with_container(command=["-v"] * (MAX_ITEMS + 1)), "container.command"),
        (with_container(command=[LONG]), "container.command.0"),
        (with_container(environment_variables={"A": 1}), "container.environment_variables.A"),
        (with_container(environment_variables={"A": None}), "container.environment_variables.A"),
        (with_container(environment_variables={"A": LONG}), "container.environment_variables.A"),
        (with_container(environment_variables=[]), "container.environment_variables"),
        (
            with_container(environment_variables={f"A{n}": "" for n in range(MAX_ITEMS + 1)}),
            "container.environment_variables",
        ),
        (with_container(environment_variables={LONG: 1}), f"container.environment_variables.{'x' * 100}"),
        (with_resources(cpu="4"), "container.resources.cpu"),
        (with_resources(gpu_classes="rtx"), "container.resources.gpu_classes"),
        (with_resources(shm_size=[]), "container.resources.shm_size"),
    ],
)
def test_another_json_type_and_an_unbounded_size_are_refused(document: object, path: str) -> None:
    assert faults(document).keys() == {path}


@pytest.mark.parametrize(
    ("document", "path", "meant"),
    [
        ({**MINIMAL, "replica": 3}, "replica", "replicas"),
        ({**MINIMAL, "Replicas": 3}, "Replicas", "replicas"),
        ({**MINIMAL, "countryCodes": []}, "countryCodes", "country_codes"),
        ({**MINIMAL, "scaling_actions": []}, "scaling_actions", "scaling-actions"),
        (with_container(environmentVariables={}), "container.environmentVariables", "environment_variables"),
        (with_container(registry_auth={}), "container.registry_auth", "registry_authentication"),
        (with_resources(shmSize=64), "container.resources.shmSize", "shm_size"),
        (with_resources(gpuClasses=[]), "container.resources.gpuClasses", "gpu_classes"),
        ({**MINIMAL, "startup_probe": {"https": HTTP}}, "startup_probe.https", "http"),
        ({**MINIMAL, "startup_probe": {"http": {**HTTP, "prot": 1}}}, "startup_probe.http.prot", "port"),
        (
            {
                **MINIMAL,
                "startup_probe": {"http": {**HTTP, "headers": [{"name": "", "value": "", "nam": ""}]}},
            },
            "startup_probe.http.headers.0.nam",
            "name",
        ),
        (
            with_container(
                registry_authentication={"basic": {"username": "u", "password": "p", "user": "u"}}
            ),
            "container.registry_authentication.basic.user",
            "username",
        ),
    ],
)
def test_an_unknown_member_is_named_with_the_one_that_was_meant(
    document: object, path: str, meant: str
) -> None:
    assert faults(document) == {path: [f"is unknown: did you mean {meant}?"]}


def test_an_unknown_member_that_resembles_none_gets_all_known_ones() -> None:
    assert faults({"networking": {"zzz": 1}}, ContainerGroupPatch) == {
        "networking.zzz": ["is unknown: remove it, or use one of port"]
    }
    assert faults({"restart_policy": "never"}, ContainerGroupPatch).keys() == {"restart_policy"}


def test_every_fault_is_named_at_once() -> None:
    document = {**with_resources(cpu="4"), "replica": 1, "country_codes": [1]}
    assert faults(document).keys() == {"replica", "country_codes.0", "container.resources.cpu"}


def test_a_long_unknown_member_is_cut() -> None:
    (path,) = faults({**MINIMAL, LONG: 1})
    assert path == "x" * 100


@pytest.mark.parametrize(
    "document",
    [
        {f"replica{n}": 1 for n in range(60_000)},
        with_container(environment_variables={f"A{n}": 1 for n in range(90_000)}),
        {**MINIMAL, "country_codes": ["us"] * 100_000},
        {**MINIMAL, "scaling-actions": [{"replicas": 1, "schedule": ""}] * 2000},
    ],
)
def test_a_flood_of_values_is_refused_before_they_are_validated(document: object) -> None:
    with pytest.raises(InvalidInputError, match="more than 5000 values") as refused:
        ContainerGroupPrototype.read(json.dumps(document))
    assert refused.value.fields == {}


@pytest.mark.parametrize(
    "body",
    [
        '{"readme": ' * 5000,
        '{"readme": "\\ud800"}',
        '{"replicas": ' + "9" * 5000 + "}",
        '{"container": {"resources": {"cpu": NaN}}}',
        '{"container": {"resources": {"cpu": 1e400}}}',
    ],
)
def test_json_that_cannot_be_stored_is_refused(body: str) -> None:
    with pytest.raises(InvalidInputError):
        ContainerGroupPatch.read(body)
