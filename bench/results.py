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

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def write(kind: str, what: str, figures: Mapping[str, object]) -> Path:
    """Write `bench/results/<date>-<commit>-<kind>.json` and return its path."""
    commit = _git("rev-parse", "--short", "HEAD") + (
        "-dirty" if _git("status", "--porcelain", "--", ".", ":!bench/results") else ""
    )
    now = datetime.now(UTC)
    result = {
        "what": what,
        "date": now.isoformat(timespec="seconds"),
        "commit": commit,
        "command": " ".join(["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "machine": _machine(),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d}-{commit}-{kind}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def _git(*argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=True)
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
