"""Servers that are built from the Go module proxy, once, at one version.

`python -m tests.support.go_programs` builds all of them; tests build what they miss.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_CACHE = Path(os.environ.get("CRISPER_TEST_CACHE", Path.home() / ".cache" / "crisper"))
_GO_FOLDER = "/usr/local/go/bin"
_BUILD_TIMEOUT_S = 900

_PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "versitygw": ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
        "fake-gcs-server": ("github.com/fsouza/fake-gcs-server", "v1.56.1"),
    }
)


def go_program(name: str) -> Path:
    """Return a server's program; the first call on a machine builds it, which takes minutes."""
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


def _build(package: str, into: Path) -> None:
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:{_GO_FOLDER}")
    if go is None:
        raise RuntimeError("building the test servers needs Go 1.24 or newer on PATH")
    subprocess.run(
        [go, "install", package],
        env={**os.environ, "GOBIN": str(into), "GOFLAGS": "-buildvcs=false"},
        check=True,
        timeout=_BUILD_TIMEOUT_S,
    )


if __name__ == "__main__":
    for each in _PACKAGES:
        print(go_program(each))
