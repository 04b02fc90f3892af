"""A group's configuration for display: everything that the public API shows of it. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from registry.api.public.group import ContainerGroup
from registry.services.views import GroupView
from registry.sizes import readable_bytes

_ENVIRONMENT: Final = "environment_variables"
#: Shown in other parts of the page.
_ELSEWHERE: Final = frozenset(
    {
        *("id", "name", "organization_name", "project_name", "current_state", "version", "pending_change"),
        *("create_time", "update_time", "container.image", "container.hash", "container.size"),
        f"container.{_ENVIRONMENT}",
        "container.command",
        "priority",  # the same as container.priority
    }
)
_LABELS: Final = {
    "autostart_policy": "Start when the image is stored",
    "container.resources.cpu": "CPU cores",
    "container.resources.memory": "Memory",
    "container.resources.shm_size": "Shared memory",
    "container.resources.gpu_classes": "GPU classes",
    "container.resources.storage_amount": "Storage",
    "container.resources.storage": "Storage",
    "restart_policy": "Restart",
}
_MIB: Final = frozenset({"container.resources.memory", "container.resources.shm_size"})
_BYTES: Final = frozenset({"container.resources.storage_amount", "container.resources.storage"})


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a group's owner has configured.

    Attributes:
        rows: Label and value of each field, in the API's order.
        command: The container's arguments; empty for the image's own.
        environment: Environment variables.
    """

    rows: Sequence[tuple[str, str]]
    command: Sequence[str]
    environment: Mapping[str, str]


def configuration_of(view: GroupView) -> Configuration:
    """Return a group's configuration."""
    document = ContainerGroup.of(view).model_dump(mode="json", by_alias=True)
    container = document["container"]
    rows = [(_label(path), _text(path, value)) for path, value in _leaves(document, "")]
    return Configuration(rows, container.get("command") or (), container.get(_ENVIRONMENT) or {})


def _leaves(value: Mapping[str, Any], within: str) -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        path = f"{within}{name}"
        if path in _ELSEWHERE or member is None or member in ([], {}):
            continue
        if isinstance(member, Mapping):
            yield from _leaves(member, f"{path}.")
        else:
            yield path, member


def _label(path: str) -> str:
    words = path.removeprefix("container.").replace(".", " ").replace("_", " ").replace("-", " ")
    return _LABELS.get(path, words[:1].upper() + words[1:])


def _text(path: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if path in _BYTES and isinstance(value, int):
        return readable_bytes(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text('', each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(_text("", each) for each in value)
    text = str(value).replace("_", " ") if path == "restart_policy" else str(value)
    return f"{text} MiB" if path in _MIB else text
