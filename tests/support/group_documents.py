"""Container groups as customers write them, beyond what the reference's limits allow.

CRISPER_RECIPES names a folder of published ones (any `container-group.json` below it, in camel case or in
snake case); they are then tested as well.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

MINIMAL: Final[Json] = {
    "name": "mandelbrot",
    "container": {"image": "registry.example/app:1", "resources": {"cpu": 1, "memory": 1024}},
    "autostart_policy": False,
    "replicas": 3,
    "restart_policy": "always",
}
HTTP: Final[Json] = {"path": "/health", "port": 80, "scheme": "http", "headers": []}
TIMES: Final[Json] = {
    "initial_delay_seconds": 0,
    "period_seconds": 2,
    "timeout_seconds": 10,
    "success_threshold": 1,
    "failure_threshold": 3,
}
NETWORKING: Final[Json] = {"auth": False, "port": 80, "protocol": "http"}
QUEUE: Final[Json] = {"path": "/prompt", "port": 80, "queue_name": "jobs"}
AUTOSCALER: Final[Json] = {"desired_queue_length": 1, "max_replicas": 2, "min_replicas": 0}
PROBES: Final = ("liveness_probe", "readiness_probe", "startup_probe")

_OF_THE_GROUP: Final[Mapping[str, Json]] = {
    "no country": {"country_codes": []},
    "a country that is not on a list": {"country_codes": ["US", "xx", ""]},
    "a display name with other characters": {"display_name": "Föo_bar\n(2)"},
    "an empty display name": {"display_name": ""},
    "a readme": {"readme": "# Title\n\nText.\n"},
    "another restart policy": {"restart_policy": "unless_stopped"},
    "networking without its defaults": {"networking": NETWORKING},
    "networking beyond its limits": {
        "networking": {
            **NETWORKING,
            "port": 0,
            "protocol": "tcp",
            "load_balancer": "least_connections",
            "client_request_timeout": 600_000,
            "server_response_timeout": 0,
        }
    },
    "a queue": {"queue_connection": QUEUE, "queue_autoscaler": AUTOSCALER},
    "a queue beyond its limits": {
        "queue_connection": {"path": "", "port": 0, "queue_name": "Jobs_1"},
        "queue_autoscaler": {**AUTOSCALER, "max_replicas": 1000, "polling_period": 1},
    },
    "no scaling": {"scaling-actions": [], "scheduled-scaling-enabled": False},
    "scaling in other words": {"scaling-actions": [{"replicas": 900, "schedule": "@daily"}]},
}
_OF_A_PROBE: Final[Mapping[str, Json]] = {
    "no headers": {"http": HTTP, **TIMES},
    "an empty header": {"http": {**HTTP, "headers": [{"name": "", "value": ""}]}, **TIMES},
    "no scheme": {"http": {**HTTP, "scheme": None}, **TIMES},
    "another scheme": {"http": {**HTTP, "scheme": "HTTP"}, **TIMES},
    "many failures": {"http": HTTP, **TIMES, "failure_threshold": 200},
    "long times": {"http": HTTP, **TIMES, "initial_delay_seconds": 7200, "period_seconds": 600},
    "zero times": {"tcp": {"port": 80}, **dict.fromkeys(TIMES, 0)},
    "no command": {"exec": {"command": []}, **TIMES},
    "a script": {"exec": {"command": ["sh", "-c", "set -e\n" + "echo ok\n" * 500]}, **TIMES},
    "a gRPC service": {"grpc": {"port": 65536, "service": ""}, **TIMES},
    "no kind": TIMES,
    "whole numbers with a fraction": {"http": HTTP, **TIMES, "period_seconds": 2.0},
    "some members": {"http": {"path": "/", "port": 80}, "failure_threshold": 30},
}
_OF_THE_CONTAINER: Final[Mapping[str, Json]] = {
    "an empty environment": {"environment_variables": {}},
    "an empty value": {"environment_variables": {"EMPTY": "", "MODE": "live"}},
    "a value of several lines": {"environment_variables": {"KEY": "-----BEGIN\nabc\r\n\t\u2028-----END\n"}},
    "a long value": {"environment_variables": {"LONG": "x" * 131_072}},
    "names as in snake and camel case": {"environment_variables": {"fooBar": "1", "replicas": "2", "": "3"}},
    "no command": {"command": []},
    "an empty argument": {"command": ["sh", ""]},
    "a long command": {"command": ["sh", "-c", "x" * 5000]},
    "a command of several lines": {"command": ["sh", "-c", "set -e\nexec serve\n"]},
    "many arguments": {"command": ["-v"] * 500},
    "another priority": {"priority": "urgent"},
    "caching": {"image_caching": True},
    "no way of the credentials": {"registry_authentication": {}},
    "no logging": {"logging": {}},
    "two log providers": {"logging": {"tcp": {"host": "h", "port": 0}, "splunk": {"host": "", "token": ""}}},
    "a log provider without tags": {"logging": {"datadog": {"host": "h", "api_key": "", "tags": None}}},
    "an HTTP log provider with nulls": {
        "logging": {
            "http": {"host": "h", "port": 1, "format": "text", "compression": "zstd", "headers": None}
        }
    },
}
_OF_THE_RESOURCES: Final[Mapping[str, Json]] = {
    "no GPU class": {"gpu_classes": []},
    "null for the GPU classes": {"gpu_classes": None},
    "GPU classes by name": {"gpu_classes": ["rtx4090", ""]},
    "little": {"cpu": 0, "memory": 1, "shm_size": 0, "storage_amount": 0},
    "much": {"cpu": 4096, "memory": 2**40, "shm_size": 2**40, "storage_amount": 2**60},
    "storage by its older name": {"storage": 53_687_091_200},
}
_NULLABLE: Final = ("command", "priority")

PATCHES: Final[tuple[Json, ...]] = (
    {"replicas": 7},
    {"container": {"environment_variables": {"ADDED": ""}}},
    {"container": {"image": "registry.example/app:2"}},
)


def documents() -> dict[str, Json]:
    """Return groups to create by what is special about them."""
    return {**dict(_unusual()), **dict(_published())}


def _unusual() -> Iterator[tuple[str, Json]]:
    for name, members in _OF_THE_GROUP.items():
        yield name, {**MINIMAL, **members}
    for kind in PROBES:
        yield f"{kind}: null", {**MINIMAL, kind: None}
        for name, probe in _OF_A_PROBE.items():
            yield f"{kind}: {name}", {**MINIMAL, kind: probe}
    containers = {**_OF_THE_CONTAINER, **{f"{name}: null": {name: None} for name in _NULLABLE}}
    for name, members in containers.items():
        yield f"container: {name}", {**MINIMAL, "container": {**MINIMAL["container"], **members}}
    for name, members in _OF_THE_RESOURCES.items():
        resources = {**MINIMAL["container"]["resources"], **members}
        yield (
            f"resources: {name}",
            {**MINIMAL, "container": {**MINIMAL["container"], "resources": resources}},
        )


def _published() -> Iterator[tuple[str, Json]]:
    folder = os.environ.get("CRISPER_RECIPES")
    for path in sorted(Path(folder).rglob("container-group.json")) if folder else ():
        document = snake_case(json.loads(path.read_text()))
        container = {**document["container"], "image": MINIMAL["container"]["image"]}
        yield (
            str(path.parent.relative_to(Path(folder or ""))),
            {**document, "name": MINIMAL["name"], "container": container},
        )


def snake_case(document: Any) -> Any:  # noqa: ANN401
    """Write every member in snake case, except the names of environment variables."""
    if isinstance(document, list):
        return [snake_case(item) for item in document]
    if not isinstance(document, dict):
        return document
    renamed = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in document}
    return {
        new: document[old] if new == "environment_variables" else snake_case(document[old])
        for new, old in renamed.items()
    }


def without_secrets(document: Json) -> Json:
    """Leave out the credentials, which no answer holds."""
    container = {**document["container"]}
    container.pop("registry_authentication", None)
    return {**document, "container": container}


def differing(sent: Any, returned: Any, path: str = "") -> list[str]:  # noqa: ANN401
    """Return the paths of members that were sent and did not come back equal.

    Objects may come back with more in them than was sent.
    """
    if isinstance(sent, dict) and isinstance(returned, dict):
        return [
            found
            for name, value in sent.items()
            for found in differing(value, returned.get(name), f"{path}.{name}" if path else name)
        ]
    if isinstance(sent, list) and isinstance(returned, list) and len(sent) == len(returned):
        pairs = enumerate(zip(sent, returned, strict=True))
        return [found for n, (one, other) in pairs for found in differing(one, other, f"{path}.{n}")]
    return [] if sent == returned else [path]
