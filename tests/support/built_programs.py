"""Servers for tests that come from the Go module proxy and from npm: built once, each at one version.

`python -m tests.support.built_programs` builds all of them; tests build what they miss.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

_CACHE = Path(os.environ.get("CRISPER_TEST_CACHE", Path.home() / ".cache" / "crisper"))
_GO_FOLDER = "/usr/local/go/bin"
_BUILD_TIMEOUT_S = 900

_GO_PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "versitygw": ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    }
)
_AZURITE = "3.37.0"


def go_program(name: str) -> Path:
    """Return a server's program; the first call on a machine builds it, which takes minutes."""
    package, version = _GO_PACKAGES[name]
    folder = _CACHE / f"{name}-{version}"
    return _once(folder / name, lambda: _go_install(f"{package}@{version}", folder))


def azurite() -> Path:
    """Return Azurite's blob server; the first call on a machine installs it."""
    folder = _CACHE / f"azurite-{_AZURITE}"
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"azurite@{_AZURITE}"]
    return _once(
        folder / "node_modules" / ".bin" / "azurite-blob",
        lambda: subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S),
    )


def _once(program: Path, build: Callable[[], object]) -> Path:
    if program.exists():
        return program
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{program.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            build()
    return program


def _go_install(package: str, into: Path) -> None:
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
    for each in _GO_PACKAGES:
        print(go_program(each))  # noqa: T201
    print(azurite())  # noqa: T201
