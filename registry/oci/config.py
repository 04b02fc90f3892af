"""Types of an image config's fields (OCI image-spec, config.md), as clients demand them.

Container runtimes decode a config into a structure of fixed types, and refuse it if a field has another type.
They are written in Go, whose decoder also ignores the case of names: it reads `"OS": "Linux"` as `os`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from registry.errors import DocumentError
from registry.oci.platform import GOARCH, GOOS, Platform, read_platform
from registry.oci.strict_json import is_text, is_text_map, is_texts, parse_object

MAX_CONFIG_BYTES: Final = 4 << 20

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)
_LEAP_YEAR: Final = 2000

Check = Callable[[object], bool]


def read_config(data: bytes) -> Mapping[str, Any]:
    """Parse an image's config.

    Returns:
        The known fields by name in lower case, also those of `rootfs`.

    Raises:
        DocumentError: The config is too large, is not a JSON object, has a field twice, or one of a type with
            which no client runs the image.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise DocumentError(f"the image's config is over {MAX_CONFIG_BYTES >> 20} MiB")
    fields = _checked(parse_object(data, "the image's config"), _FIELDS, "")
    _checked(fields.get("config") or {}, _RUN_FIELDS, "config.")
    for entry in fields.get("history") or ():
        _checked(entry or {}, _HISTORY_FIELDS, "history.")
    rootfs = _checked(fields.get("rootfs") or {}, _ROOTFS_FIELDS, "rootfs.")
    return {**fields, "rootfs": rootfs}


def parse_config_platform(data: bytes) -> Platform | None:
    """Return the platform in an image's config, or None if the config contains none.

    The names must be exactly those of Go, which clients expect: dockerd 20.10 does not start again after it
    pulled an image for `Linux`.

    Raises:
        DocumentError: The config is too large, invalid, or names an unknown platform.
    """
    fields = read_config(data)
    for name, known in (("os", GOOS), ("architecture", GOARCH)):
        if fields.get(name) and fields[name] not in known:
            raise DocumentError(
                f"the image's config has no known {name}, in lower case: build the image again"
            )
    if not fields.get("os") or not fields.get("architecture"):
        return None
    return read_platform(fields)


def _checked(fields: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> Mapping[str, Any]:
    """Return the known fields by name in lower case. Raises DocumentError for an invalid one."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        key = name.casefold()
        if key not in checks:
            continue
        path = where + name
        if key in found:
            raise DocumentError(f"the image's config has the field {path} twice, in different capitals")
        if not checks[key](value):
            raise DocumentError(f"the image's config has no valid {path}")
        found[key] = value
    return found


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_object(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _is_list(value: object) -> bool:
    return value is None or isinstance(value, list)


def _is_set(value: object) -> bool:
    """A set is an object whose values say nothing."""
    return value is None or (isinstance(value, dict) and all(map(_is_object, value.values())))


def _is_command(value: object) -> bool:
    """Docker 20.10 also takes a string."""
    return isinstance(value, str) or is_texts(value)


def _is_objects(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_object, value)))


def _is_environment(value: object) -> bool:
    """No runtime starts a container with a nameless variable, or with NUL in one."""
    if not isinstance(value, list):
        return value is None
    return is_texts(value) and not any(text and (text[0] == "=" or "\0" in text) for text in value)


def _is_time(value: object) -> bool:
    """A time is as in RFC 3339, with capital letters."""
    if value is None:
        return True
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return False
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        datetime(year or _LEAP_YEAR, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False
    return True


_FIELDS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("architecture", "author", "os", "os.version", "variant"), is_text),
    "config": _is_object,
    "created": _is_time,
    "history": _is_objects,
    "os.features": is_texts,
    "rootfs": _is_object,
}
_RUN_FIELDS: Final[Mapping[str, Check]] = {
    "argsescaped": _is_flag,
    "cmd": _is_command,
    "entrypoint": _is_command,
    "env": _is_environment,
    "exposedports": _is_set,
    "labels": is_text_map,
    "stopsignal": is_text,
    "user": is_text,
    "volumes": _is_set,
    "workingdir": is_text,
}
_HISTORY_FIELDS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("author", "comment", "created_by"), is_text),
    "created": _is_time,
    "empty_layer": _is_flag,
}
_ROOTFS_FIELDS: Final[Mapping[str, Check]] = {"diff_ids": _is_list, "type": is_text}
