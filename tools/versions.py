"""Prints the version of the distribution, if all files of a release agree on it.

python -m tools.versions
python -m tools.versions --dated    # also requires a date in CHANGELOG.md
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
_NEWEST = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class VersionError(Exception):
    """The files of a release disagree, or the release has no date."""


def main() -> None:
    """Print the version; exit with status 1 and the reason if there is none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dated", action="store_true", help="require a date in CHANGELOG.md")
    try:
        print(agreed(ROOT, dated=parser.parse_args().dated))
    except VersionError as error:
        sys.exit(str(error))


def agreed(root: Path, *, dated: bool = False) -> str:
    """Return the version of pyproject.toml, which the lock file, the chart and CHANGELOG.md have too.

    Raises:
        VersionError: A file has another version; or, with `dated`, CHANGELOG.md has no date for it.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    version = str(project["version"])
    locked = tomllib.loads((root / "uv.lock").read_text())["package"]
    chart = yaml.safe_load((root / "deploy/helm/crisper/Chart.yaml").read_text())
    newest = _NEWEST.search((root / "CHANGELOG.md").read_text())
    found = {
        "uv.lock": next((each["version"] for each in locked if each["name"] == project["name"]), None),
        "version of Chart.yaml": chart["version"],
        "appVersion of Chart.yaml": chart["appVersion"],
        "CHANGELOG.md": newest and newest["version"],
    }
    if others := [f"{place} has {other}" for place, other in found.items() if other != version]:
        raise VersionError(
            f"pyproject.toml has {version}, but {', '.join(others)}. Write one version in all."
        )
    if dated and not (newest and _DATE.fullmatch(newest["date"])):
        raise VersionError(
            f"CHANGELOG.md has no date for {version}. Write it as `## {version} (YYYY-MM-DD)`."
        )
    return version


if __name__ == "__main__":
    main()
