"""Programs that are built from the Go module proxy, once, at one version.

`python -m tests.support.go_programs` builds all of them; tests build what they miss.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_CACHE = Path(os.environ.get("CRISPER_TEST_CACHE", Path.home() / ".cache" / "crisper"))
_GO_FOLDER = "/usr/local/go/bin"
_BUILD_TIMEOUT_S = 900

_PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "conformance": (
            "github.com/opencontainers/distribution-spec/conformance",
            "v0.0.0-20260831232431-97274622c111",
        ),
        "crane": ("github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
        "oras": ("oras.land/oras/cmd/oras", "v1.3.4"),
        "regctl": ("github.com/regclient/regclient/cmd/regctl", "v0.11.5"),
    }
)


def go_program(name: str) -> Path:
    """Return a program; the first call on a machine builds it, which takes minutes."""
    package, version = _PACKAGES[name]
    folder = _CACHE / f"{name}-{version}"
    program = folder / name
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(f"{package}@{version}", folder / "building")
            (folder / "building" / name).rename(program)
    return program


def version_of(name: str) -> str:
    """Return the version at which a program is built."""
    return _PACKAGES[name][1]


def _build(package: str, into: Path) -> None:
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:{_GO_FOLDER}")
    if go is None:
        raise RuntimeError("building the test programs needs Go 1.25 or newer on PATH")
    subprocess.run(
        [go, "install", package],
        env={**os.environ, "GOBIN": str(into), "GOFLAGS": "-buildvcs=false"},
        check=True,
        timeout=_BUILD_TIMEOUT_S,
    )


if __name__ == "__main__":
    for each in _PACKAGES:
        sys.stdout.write(f"{go_program(each)}\n")
