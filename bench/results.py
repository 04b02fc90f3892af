"""Keeps what a benchmark measured, with what it takes to measure it again."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
# What a figure depends on most; kernel and interpreter are upgraded on the same machine.
MACHINE_FIELDS = ("cpu", "vaes", "cores", "memory_gib")
Result = dict[str, Any]


def load(kind: str, root: Path = ROOT) -> dict[Path, Result]:
    """Return the results of a kind that were measured at a commit, by file."""
    name = re.compile(rf"\d{{4}}-\d\d-\d\d-[0-9a-f]+-{kind}\.json")
    paths = (path for path in (root / "bench" / "results").glob("*.json") if name.fullmatch(path.name))
    return {path: json.loads(path.read_text()) for path in paths}


def write(kind: str, what: str, figures: Mapping[str, object], root: Path = ROOT) -> Path:
    """Write `bench/results/<date>-<commit>-<kind>.json`, replacing this machine's earlier one; return it.

    A work tree with uncommitted changes cannot be measured a second time: its result goes to `build/bench/`
    and replaces nothing.
    """
    commit = _git(root, "rev-parse", "--short", "HEAD")
    dirty = bool(_git(root, "status", "--porcelain", "--", ".", ":!bench/results"))
    now = datetime.now(UTC)
    result: Result = {
        "what": what,
        "date": now.isoformat(timespec="seconds"),
        "commit": f"{commit}-dirty" if dirty else commit,
        "command": " ".join(["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "machine": _machine(),
        **figures,
    }
    if dirty:
        print("The work tree has uncommitted changes: the result is not kept. Commit, then measure again.")
    else:
        for path, earlier in load(kind, root).items():
            if machine_of(earlier) == machine_of(result):
                path.unlink()
    folder = root / ("build/bench" if dirty else "bench/results")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d}-{result['commit']}-{kind}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def machine_of(result: Result) -> tuple[object, ...]:
    """Return what identifies the machine of a result."""
    return tuple(result["machine"].get(field) for field in MACHINE_FIELDS)


def _git(root: Path, *argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _machine() -> dict[str, object]:
    # With VAES, AES-GCM is two to three times as quick.
    processors = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", processors)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "vaes": re.search(r"\bvaes\b", processors) is not None,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
