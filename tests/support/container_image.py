"""The container image of deploy/Dockerfile, built on a Debian that is made here."""

from pathlib import Path

from tests.support.debian import CERTIFICATES, debian
from tests.support.dockerd import Dockerd
from tests.support.processes import run

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "debian-python:12", "crisper-registry:test"
BUILD_OPTIONS = ("--network", "host", "--build-arg", f"PYTHON={BASE}")
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
        archive = debian("debian-12-python", "bookworm", _PACKAGES)
        environment = (
            f"SSL_CERT_FILE={CERTIFICATES} PIP_CERT={CERTIFICATES} UV_SYSTEM_CERTS=true UV_NATIVE_TLS=true "
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
