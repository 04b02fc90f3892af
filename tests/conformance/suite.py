"""Runs the official suite: once with pushes, to fill an upstream, then read-only against Crisper."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support.go_programs import go_program
from tests.support.processes import run

REPOSITORY = "conformance/repo1"
TIMEOUT_S = 120
ROOT = "OCI Conformance Test"

# Groups of checks that a read-only registry can be asked for. They run one by one: the suite reads the
# table of its pushed data for whatever is not filtered out, and panics where nothing was pushed.
GENERAL = ("ping", "empty", "missing-manifest", "invalid-digest-format/manifest-get")
PER_IMAGE = ("read-only/tag-list", "read-only/head", "read-only/pull", "read-only/referrers")

_KEEP: Mapping[str, str] = MappingProxyType(
    {
        f"OCI_API_{what}_{how}": "false"
        for what in ("BLOBS", "MANIFESTS", "TAGS")
        for how in ("DELETE", "ATOMIC")
    }
)


_RESULT = re.compile(rf"( *){ROOT}(?:/(?P<name>[^:]*))?: (?P<status>\w+)")


@dataclass(frozen=True)
class Check:
    """One check of the suite and how it ended: pass, skip, disabled, fail or error."""

    name: str
    status: str
    said: str = ""


@dataclass(frozen=True)
class Target:
    """Where to run, as whom, and what is there."""

    host: str
    repository: str
    username: str
    password: str
    tags: Sequence[str] = ()
    manifests: Sequence[str] = ()
    blobs: Sequence[str] = ()
    referrers: Sequence[str] = ()


def fill(host: str, folder: Path) -> None:
    """Push the suite's images into a registry and leave them there; what the registry fails is its matter."""
    _run({"OCI_REGISTRY": host, "OCI_REPO1": REPOSITORY}, folder)


def check(target: Target, groups: Sequence[str], folder: Path) -> list[Check]:
    """Run groups of checks against a read-only registry."""
    settings = {
        "OCI_REGISTRY": target.host,
        "OCI_REPO1": target.repository,
        "OCI_USERNAME": target.username,
        "OCI_PASSWORD": target.password,
        "OCI_API_PUSH": "false",
        "OCI_API_BLOBS_DIGEST_HEADER": "true",
        "OCI_RO_DATA_TAGS": " ".join(target.tags),
        "OCI_RO_DATA_MANIFESTS": " ".join(target.manifests),
        "OCI_RO_DATA_BLOBS": " ".join(target.blobs),
        "OCI_RO_DATA_REFERRERS": " ".join(target.referrers),
    }
    found: list[Check] = []
    for group in groups:
        found += _run(settings | {"OCI_FILTER_TEST": f"{ROOT}/{group}"}, folder / re.sub(r"\W", "-", group))
    return found


def _run(settings: Mapping[str, str], folder: Path) -> list[Check]:
    folder.mkdir(parents=True)
    settings = {name: value for name, value in settings.items() if value}
    env = {
        "OCI_TLS": "disabled",
        "OCI_RESULTS_DIR": str(folder),
        **_KEEP,
        **settings,
    }
    result = run([str(go_program("conformance"))], env=env, timeout_s=TIMEOUT_S)
    (folder / "output.txt").write_text(result.output)
    return _read(result.output)


def _read(output: str) -> list[Check]:
    """Take the leaves of the tree of results that the suite prints.

    Its report files are of no use: with a filter it gives up at the first API that was not tested.
    """
    _, begins, tree = output.partition("Test results\n")
    lines = tree.split("\n\nConfiguration:", 1)[0].splitlines()
    found = [(match, number) for number, line in enumerate(lines) if (match := _RESULT.fullmatch(line))]
    if not begins or not found:
        raise RuntimeError(f"the suite left no results; it said:\n{output[-4000:]}")
    ends = [number for _, number in found[1:]] + [len(lines)]
    deeper = [len(match[1]) for match, _ in found[1:]] + [0]
    return [
        Check(match["name"], match["status"].lower(), "\n".join(lines[number + 1 : end]))
        for (match, number), end, below in zip(found, ends, deeper, strict=True)
        if below <= len(match[1])
    ]
