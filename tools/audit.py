"""Checks the lock file against the known vulnerabilities of `tools/advisories.toml`, without a network."""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print each vulnerable package of the lock file, and exit with 1 if there is one."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    advisories = tomllib.loads((ROOT / "tools" / "advisories.toml").read_text())["advisory"]
    found = list(vulnerable({package["name"]: package["version"] for package in locked}, advisories))
    for line in found:
        sys.stderr.write(line + "\n")
    if found:
        sys.stderr.write("Update these packages: uv lock --upgrade-package NAME\n")
        sys.exit(1)


def vulnerable(locked: Mapping[str, str], advisories: list[dict[str, Any]]) -> Iterator[str]:
    """Describe each advisory that affects a locked version.

    Args:
        locked: Version of each package.
        advisories: The entries of `advisories.toml`.
    """
    for advisory in advisories:
        version = locked.get(advisory["package"])
        if version is not None and SpecifierSet(advisory["affected"], prereleases=True).contains(version):
            yield f"{advisory['package']} {version}: {advisory['id']}: {advisory['summary']}"


if __name__ == "__main__":
    main()
