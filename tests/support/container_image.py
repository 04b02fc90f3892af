"""The container image of deploy/Dockerfile, built on a Debian that is made here."""

import shutil
from pathlib import Path

from tests.support.built_programs import CACHE, once
from tests.support.dockerd import Dockerd
from tests.support.processes import run

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "debian-python:12", "crisper-registry:test"
BUILD_OPTIONS = ("--network", "host", "--build-arg", f"PYTHON={BASE}")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PACKAGES = "python3,python3-venv,ca-certificates"


class Engine:
    """Docker with its command line."""

    def __init__(self, daemon: Dockerd) -> None:
        self.host = f"unix://{daemon.socket}"
        self._command = ("docker", "--host", self.host)

    def __call__(self, *argv: str, timeout_s: float = 120) -> str:
        """Run a command. Returns its output; raises AssertionError if it fails."""
        return run([*self._command, *argv], timeout_s=timeout_s).check().output.strip()

    def build(self) -> None:
        """Build the image as deploy/Dockerfile says, with the packages of this machine's mirrors."""
        archive = debian()
        environment = (
            f"SSL_CERT_FILE={_CERTIFICATES} PIP_CERT={_CERTIFICATES} UV_SYSTEM_CERTS=true UV_NATIVE_TLS=true "
            "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
        )
        self("import", "--change", f"ENV {environment}", str(archive), BASE)
        self(
            "build",
            *BUILD_OPTIONS,
            "--tag",
            IMAGE,
            "--file",
            str(ROOT / "deploy" / "Dockerfile"),
            str(ROOT),
            timeout_s=900,
        )


def debian() -> Path:
    """Return an archive of a minimal Debian 12 with Python. The first call on a machine makes it."""
    archive = CACHE / "debian-12-python.tar"
    return once(archive, lambda: _make_debian(archive))


def _make_debian(archive: Path) -> None:
    root, staged = archive.with_suffix(".root"), archive.with_suffix(".new")
    shutil.rmtree(root, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
    run(command, timeout_s=900).check()
    certificates = root / _CERTIFICATES.relative_to("/")
    certificates.unlink(missing_ok=True)  # this machine's mirrors may have a CA of their own
    shutil.copyfile(_CERTIFICATES, certificates)
    for settings in Path("/etc/apt/apt.conf.d").iterdir():
        if "docker" not in settings.name:
            shutil.copy(settings, root / "etc" / "apt" / "apt.conf.d")
    run(["tar", "--create", f"--file={staged}", f"--directory={root}", "."], timeout_s=300).check()
    staged.rename(archive)
    shutil.rmtree(root)
