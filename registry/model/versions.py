"""Versions of a container group: what makes a new one, and what an earlier one brings back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from storage.digest import Digest

#: What the version counts, besides the image. Members of an object are written with a dot.
_FIELDS: Final = (
    "container.command",
    "container.environment_variables",
    "liveness_probe",
    "readiness_probe",
    "startup_probe",
    "networking",
)

Configuration = Mapping[str, Any]
"""The fields that the version counts, by their paths, as they were sent."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version of a group whose image is stored.

    Attributes:
        image: The reference as the customer wrote it.
        configuration: None if a server stored the version that did not keep it.
        size_bytes: Compressed size of the image's platform; the largest of several.
        platform: Platforms of the image, separated by commas.
        missing_platforms: Platforms that were wanted, but that the image does not have.
    """

    version: int
    image: str
    configuration: Configuration | None = field(repr=False)
    digest: Digest
    size_bytes: int
    platform: str
    missing_platforms: tuple[str, ...] = ()


def configuration_of(spec: Mapping[str, Any]) -> Configuration:
    """Return the fields of a spec that the version counts."""
    found = {}
    for path in _FIELDS:
        holder, name = _holder(spec, path)
        if name in holder:
            found[path] = holder[name]
    return found


def same_configuration(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two specs are one version. Empty and omitted fields are equal."""
    first, second = configuration_of(one), configuration_of(other)
    return all((first.get(path) or None) == (second.get(path) or None) for path in _FIELDS)


def changed_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in which two specs differ, without their values."""
    within = [("container.", one.get("container") or {}, other.get("container") or {})]
    within.append(("", {**one, "container": None}, {**other, "container": None}))
    return sorted(
        f"{prefix}{name}"
        for prefix, first, second in within
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name)
    )


def with_configuration(spec: Mapping[str, Any], configuration: Configuration) -> Mapping[str, Any]:
    """Return a spec with the configuration of another version and the rest of its own fields."""
    changed = dict(spec)
    if "container" in spec:
        changed["container"] = dict(spec["container"])
    for path in _FIELDS:
        holder, name = _holder(changed, path)
        if path in configuration:
            holder[name] = configuration[path]
        else:
            holder.pop(name, None)
    return changed


def _holder(spec: Mapping[str, Any], path: str) -> tuple[Any, str]:
    parent, _, name = path.rpartition(".")
    return (spec.get(parent, {}) if parent else spec), name
