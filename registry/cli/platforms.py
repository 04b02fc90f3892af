"""`crisper organization platforms` and `crisper group platforms`; and the platform of this machine."""

import platform
import struct
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, ProjectName
from registry.cli.output import show
from registry.errors import ConfigError, ReferenceFormatError
from registry.oci.platform import Platform

_ARM = {"armv5": "v5", "armv6": "v6", "armv7": "v7", "armv8": "v7"}
_IN_32_BITS = {"x86_64": "386", "aarch64": "arm"}

PlatformsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PLATFORM]...", help="Platforms of the next imports, as linux/arm64."),
]
DefaultOption = Annotated[
    bool, typer.Option("--default", help="Remove the setting, so that the more general one applies.")
]


def organization_platforms(
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    platforms: PlatformsArgument = None,
    default: DefaultOption = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show or set the platforms that an organization's imports store."""
    _run(f"/organizations/{quote(name)}/platforms", platforms, default, data_dir, as_json=as_json)


def group_platforms(
    name: Annotated[str, typer.Argument(help="Name of the group.")],
    platforms: PlatformsArgument = None,
    default: DefaultOption = False,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show or set the platforms that a group's imports store, from the next import on."""
    group = "/".join(map(quote, ("organizations", organization, "projects", project, "containers", name)))
    _run(f"/{group}/platforms", platforms, default, data_dir, as_json=as_json)


def this_platform() -> Platform | None:
    """Return the platform for which this machine's container engine runs images; None if it is not known.

    The word size of this program decides between a kernel's 64-bit and 32-bit architecture.
    """
    machine = platform.machine().lower()
    wide = struct.calcsize("P") * 8 == 64  # noqa: PLR2004 (bits of a pointer)
    try:
        if machine[:5] in _ARM:
            return Platform.of(sys.platform, "arm", _ARM[machine[:5]])
        if machine in {"i486", "i586", "i686"}:
            machine = "i386"
        return Platform.parse(f"{sys.platform}/{machine if wide else _IN_32_BITS.get(machine, machine)}")
    except ReferenceFormatError:
        return None


def _run(path: str, platforms: list[str] | None, default: bool, data_dir: Path, *, as_json: bool) -> None:
    if platforms and default:
        raise ConfigError("give platforms, or --default, not both")
    body: Any = {"platforms": platforms or None}
    changes = bool(platforms) or default
    method = "PUT" if changes else "GET"
    found = ask(data_dir, lambda client: client.operator(method, path, body if changes else None))
    own = found["platforms"]
    rows = [("platforms", ", ".join(found["effective"])), ("set here", "yes" if own else "no")]
    show(found, as_json=as_json, rows=rows)
