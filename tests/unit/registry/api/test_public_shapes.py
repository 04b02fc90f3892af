import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salad_cloud_sdk.models import ContainerGroup as SdkContainerGroup
from salad_cloud_sdk.models import ContainerGroupCreationRequest

from registry.api.public.group import ContainerGroup
from registry.api.public.patch import ContainerGroupPatch
from registry.api.public.prototype import ContainerGroupPrototype
from registry.errors import InvalidInputError
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.versions import StoredVersion, configuration_of
from registry.services.views import GroupView
from storage.digest import Digest

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

MINIMAL: dict[str, Any] = {
    "name": "mandelbrot",
    "container": {"image": "registry.example/app:1", "resources": {"cpu": 1, "memory": 1024}},
    "autostart_policy": False,
    "replicas": 3,
    "restart_policy": "always",
}


def read(document: object) -> ContainerGroupPrototype:
    return ContainerGroupPrototype.read(json.dumps(document))


def with_container(**fields: object) -> dict[str, Any]:
    return {**MINIMAL, "container": {**MINIMAL["container"], **fields}}


def faults(document: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidInputError) as caught:
        read(document)
    return caught.value.fields


def group(document: object, **changes: object) -> GroupView:
    new = read(document).as_new_group()
    facts: dict[str, Any] = {
        "id": "ab3a4591-efc3-46c0-b06a-3d820c0ec100",
        "key": GroupKey("acme-corp", "dev-env", "mandelbrot"),
        "image": new.image,
        "spec": json.loads(json.dumps(new.spec)),
        "version": 1,
        "autostart": new.autostart,
        "status": GroupStatus.PENDING,
        "status_description": "pulling",
        "status_since": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        "job_id": "j",
    }
    made = Group(**{**facts, **changes})
    return GroupView(made, made.status_description)


def answered(document: object, **changes: object) -> dict[str, Any]:
    text = ContainerGroup.of(group(document, **changes)).model_dump_json(by_alias=True)
    SdkContainerGroup._unmap(json.loads(text))
    result = json.loads(text)
    assert isinstance(result, dict)
    return result


def test_the_least_request_is_answered_with_what_the_sdk_requires() -> None:
    document = answered(MINIMAL)
    assert document["display_name"] == "mandelbrot"
    assert document["country_codes"] == []
    assert document["priority"] is None
    assert document["scaling-actions"] == []
    assert document["scheduled-scaling-enabled"] is False
    assert document["container"] == {
        "image": "registry.example/app:1",
        "command": None,
        "environment_variables": {},
        "priority": None,
        "resources": {"cpu": 1, "memory": 1024, "gpu_classes": [], "shm_size": 64},
    }
    assert "networking" not in document
    assert document["create_time"] == "2026-03-01T12:00:00Z"


def test_a_stored_image_shows_its_digest_and_size() -> None:
    digest = Digest.of(b"manifest")
    document = answered(MINIMAL, status=GroupStatus.STOPPED, image_digest=digest, image_size_bytes=35 * 2**30)
    assert document["container"]["hash"] == str(digest)
    assert document["container"]["size"] == 35 * 2**30
    assert document["current_state"]["status"] == "stopped"


def test_a_failure_is_told_on_one_line_of_at_most_a_thousand_characters() -> None:
    document = answered(
        MINIMAL, status=GroupStatus.FAILED, status_description="failed to pull: no\nsuch tag " + "x" * 2000
    )
    description = document["current_state"]["description"]
    assert description.startswith("failed to pull: no such tag xxx")
    assert len(description) == 1000


def test_the_schedulers_fields_come_back_unchanged() -> None:
    asked = {
        **MINIMAL,
        "display_name": "Mandelbrot, set 1.0",
        "country_codes": ["us", "de"],
        "networking": {"auth": True, "port": 8080, "protocol": "http", "load_balancer": "round_robin"},
        "queue_connection": {"path": "/jobs", "port": 80, "queue_name": "jobs"},
        "queue_autoscaler": {"desired_queue_length": 3, "max_replicas": 9, "min_replicas": 0},
        "scaling-actions": [{"replicas": 4, "schedule": "0 8 * * 1-5"}],
        "scheduled-scaling-enabled": True,
        "liveness_probe": {
            "exec": {"command": ["true"]},
            "initial_delay_seconds": 5,
            "failure_threshold": 2,
            "period_seconds": 20,
            "success_threshold": 1,
            "timeout_seconds": 9,
        },
    }
    document = answered(asked)
    for field in asked.keys() - {"container", "networking"}:
        assert document[field] == asked[field], field
    assert document["networking"].items() >= asked["networking"].items()
    assert document["networking"]["dns"] == "mandelbrot.dev-env.acme-corp.internal"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**MINIMAL, "name": "Mandelbrot"}, "name"),
        ({**MINIMAL, "name": "m"}, "name"),
        ({**MINIMAL, "name": "a" * 64}, "name"),
        ({**MINIMAL, "name": "mandelbrot\n"}, "name"),
        ({**MINIMAL, "replicas": 501}, "replicas"),
        ({**MINIMAL, "replicas": "3"}, "replicas"),
        ({**MINIMAL, "replicas": True}, "replicas"),
        ({**MINIMAL, "replicas": -1}, "replicas"),
        ({**MINIMAL, "autostart_policy": "true"}, "autostart_policy"),
        ({**MINIMAL, "autostart_policy": None}, "autostart_policy"),
        (with_container(image=""), "container.image"),
        (with_container(image="a\nb"), "container.image"),
        (with_container(image="a" * 2049), "container.image"),
        (
            with_container(registry_authentication={"basic": {"username": "", "password": "p"}}),
            "container.registry_authentication.basic.username",
        ),
        (
            with_container(
                registry_authentication={
                    "basic": {"username": "u", "password": "p"},
                    "gcp_gcr": {"service_key": "{}"},
                }
            ),
            "container.registry_authentication",
        ),
        ([], "body"),
    ],
)
def test_what_crisper_acts_on_is_held_to_its_limits(document: object, path: str) -> None:
    assert faults(document).keys() == {path}


def test_every_missing_field_is_named_at_once() -> None:
    assert faults({}).keys() == MINIMAL.keys()


def test_a_flood_of_faults_is_cut_off() -> None:
    assert len(faults(with_container(environment_variables={f"A{i}": 1 for i in range(900)}))) == 50


def test_what_is_not_json_is_said_to_be_so() -> None:
    with pytest.raises(InvalidInputError, match="not JSON"):
        ContainerGroupPrototype.read('{"name": geheim')


def test_refusals_do_not_repeat_what_was_sent() -> None:
    document = with_container(
        registry_authentication={"basic": {"username": ["geheim"], "password": "geheim\nx"}}
    )
    with pytest.raises(InvalidInputError) as caught:
        read(document)
    assert "geheim" not in f"{caught.value!r} {caught.value.fields}"
    assert caught.value.__cause__ is None


def test_a_null_is_the_same_as_leaving_a_field_out() -> None:
    nulls = {"display_name": None, "networking": None, "liveness_probe": None, "country_codes": None}
    assert answered({**MINIMAL, **nulls}) == answered(MINIMAL)


def test_a_null_that_the_reference_knows_is_returned() -> None:
    resources = {**MINIMAL["container"]["resources"], "gpu_classes": None}
    probe = {"http": {"path": "/", "port": 80, "scheme": None}}
    nulls = {"command": None, "priority": None, "resources": resources}
    document = answered({**with_container(**nulls), "startup_probe": None, "liveness_probe": probe})
    container = document["container"]
    found = [container["command"], container["priority"], document["startup_probe"]]
    assert found == [None] * 3
    assert container["resources"]["gpu_classes"] is None
    assert document["liveness_probe"]["http"]["scheme"] is None


secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)


@given(secrets, secrets)
def test_credentials_are_handed_on_as_sent_and_are_in_no_kept_word(username: str, password: str) -> None:
    marker = "geheim-" + password
    asked = {"basic": {"username": username, "password": marker}}
    prototype = read(with_container(registry_authentication=asked))
    new = prototype.as_new_group()
    assert new.registry_authentication == asked
    assert "registry_authentication" not in new.spec["container"]
    assert marker not in repr(prototype) + repr(new) + json.dumps(new.spec)


@pytest.mark.parametrize(
    "provider",
    [
        {"axiom": {"host": "h", "api_token": "geheim", "dataset": "d"}},
        {"datadog": {"host": "h", "api_key": "geheim", "tags": None}},
        {"datadog": {"host": "h", "api_key": "geheim", "tags": [{"name": "n", "value": "v"}]}},
        {"new_relic": {"host": "h", "ingestion_key": "geheim"}},
        {"splunk": {"host": "h", "token": "geheim"}},
        {"tcp": {"host": "h", "port": 514}},
        {
            "http": {
                "host": "h",
                "port": 443,
                "format": "json",
                "compression": "gzip",
                "user": "u",
                "password": "geheim",
                "headers": [{"name": "Authorization", "value": "geheim"}],
            }
        },
        {"http": {"host": "h", "port": 443, "format": "json_lines", "compression": "none"}},
    ],
)
def test_a_log_providers_secrets_are_dropped_and_the_rest_comes_back(provider: dict[str, Any]) -> None:
    document = answered(with_container(logging=provider))
    assert "geheim" not in json.dumps(document)
    (name,) = provider
    kept = document["container"]["logging"][name]
    assert kept.keys() >= provider[name].keys()
    assert kept["host"] == "h"


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=70)


@given(words, st.integers(-1, 600))
def test_what_the_sdk_would_send_is_taken_and_what_it_would_not_is_refused(name: str, replicas: int) -> None:
    document = {**MINIMAL, "name": name, "replicas": replicas}
    try:
        ContainerGroupCreationRequest(**document)
    except ValueError:
        assert faults(document)
    else:
        assert read(document).name == name


def test_no_repr_contains_a_value_of_the_environment_or_the_command() -> None:
    canary = "canary-0f6b"
    secrets = {"environment_variables": {"TOKEN": canary}, "command": [canary]}
    document = with_container(**secrets) | {"readme": canary}
    request = read(document)
    new = request.as_new_group()
    key = GroupKey("acme", "shop", "web")
    created = Group.create(key, new.image, new.spec, autostart=False, now=NOW)
    patch = ContainerGroupPatch.read(json.dumps({"container": secrets}))
    view = GroupView(created.group, "")
    stored = StoredVersion(1, new.image, configuration_of(new.spec), Digest.of(b""), 1, "linux/amd64")
    assert canary in ContainerGroup.of(view).model_dump_json()
    for each in (
        request,
        new,
        created,
        patch,
        patch.as_change(pull=False),
        view,
        stored,
        ContainerGroup.of(view),
    ):
        assert canary not in f"{each!r} {each}"
