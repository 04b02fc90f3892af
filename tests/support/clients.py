"""The clients that nodes run, unmodified: each pulls a reference with a user name and a password.

Every pull starts from nothing (`forget` removes whatever earlier ones left), uses credentials that no
other pull sees, and hands back the client's own words.
"""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import ClassVar, Protocol

from tests.support.dockerd import Containerd, Dockerd
from tests.support.processes import Result, run

PULL_TIMEOUT_S = 100
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFUSED = r".*(unauthorized|denied|authorization failed|401 \(?Unauthorized|403 \(?Forbidden)"


def _refusal(prefix: str) -> re.Pattern[str]:
    """Match an error of the client's that says 401 or 403 in any of the words that clients have for it."""
    return re.compile(prefix + _REFUSED, re.DOTALL | re.IGNORECASE)


def _platform(platform: str | None) -> list[str]:
    return ["--platform", platform] if platform else []


def _overrides(platform: str | None) -> list[str]:
    words = platform.split("/") if platform else []
    return [f"--override-{name}={word}" for name, word in zip(("os", "arch", "variant"), words, strict=False)]


class Client(Protocol):
    """What tests ask of a client.

    Attributes:
        name: As people call it; names the test's parameter.
        refusal: Pattern of the client's own words when the registry refuses it.
    """

    name: str
    refusal: ClassVar[re.Pattern[str]]

    def pull(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        """Pull, from nothing."""

    def digest(self, reference: str) -> str:
        """Return the digest that the client recorded for a pulled reference."""

    def forget(self) -> None:
        """Remove all images and their blobs."""


class Docker:
    """`docker` against the tests' dockerd, credentials in a config folder made for each pull."""

    refusal: ClassVar = _refusal("Error response from daemon: ")

    def __init__(self, daemon: Dockerd, folder: Path) -> None:
        self.name = "docker"
        self._host = f"unix://{daemon.socket}"
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self, config: Path) -> dict[str, str]:
        """Return the environment in which `docker` uses this daemon, and keeps its logins in `config`."""
        return {"DOCKER_HOST": self._host, "DOCKER_CONFIG": str(config)}

    def _docker(self, *argv: str, config: Path | None = None, timeout_s: float = 60) -> Result:
        return run(
            ["docker", "--config", str(config or self._folder), "--host", self._host, *argv],
            timeout_s=timeout_s,
        )

    def pull(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        self.forget()
        return self.update(reference, username, password, platform)

    def update(
        self,
        reference: str,
        username: str,
        password: str,
        platform: str | None = None,
        *,
        timeout_s: float = PULL_TIMEOUT_S,
    ) -> Result:
        """Pull, with what earlier pulls left."""
        config = Path(mkdtemp(dir=self._folder))
        auth = b64encode(f"{username}:{password}".encode()).decode()
        registry = reference.split("/", 1)[0]
        (config / "config.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}))
        try:
            return self._docker("pull", *_platform(platform), reference, config=config, timeout_s=timeout_s)
        finally:
            rmtree(config)

    def pull_with(self, config: Path, reference: str) -> Result:
        """Pull with a configuration folder of the test's."""
        self.forget()
        return self._docker("pull", reference, config=config, timeout_s=PULL_TIMEOUT_S)

    def login(self, registry: str, username: str, password: str) -> Result:
        """`docker login`, which asks the realm for a token without any scope."""
        config = Path(mkdtemp(dir=self._folder))
        try:
            return self._docker(
                "login", "--username", username, "--password", password, registry, config=config
            )
        finally:
            rmtree(config)

    def inspect_manifest(self, reference: str, username: str, password: str) -> Result:
        """`docker manifest inspect`, in which the command itself talks to the registry, not the daemon."""
        config = Path(mkdtemp(dir=self._folder))
        auth = b64encode(f"{username}:{password}".encode()).decode()
        auths = {reference.split("/", 1)[0]: {"auth": auth}}
        (config / "config.json").write_text(json.dumps({"auths": auths, "experimental": "enabled"}))
        try:
            return self._docker("manifest", "inspect", "--insecure", reference, config=config)
        finally:
            rmtree(config)

    def info(self) -> Result:
        """`docker info`."""
        return self._docker("info")

    def digest(self, reference: str) -> str:
        shown = self._docker("image", "inspect", "--format", "{{json .RepoDigests}}", reference).check()
        (digest,) = set(_DIGEST.findall(shown.output))
        return str(digest)

    def forget(self) -> None:
        self._docker("image", "prune", "--all", "--force").check()

    def run(self, reference: str, *argv: str) -> Result:
        """Run a pulled image; without `argv`, as the image itself says."""
        return self._docker("run", "--rm", "--network=none", reference, *argv)


class Ctr:
    """`ctr images pull`, containerd's own client.

    Attributes:
        transport: Options that say how the registry is spoken to.
    """

    refusal: ClassVar = _refusal("ctr: ")

    def __init__(self, daemon: Containerd) -> None:
        self.name = "containerd"
        self.transport = ["--plain-http"]
        self._socket = daemon.socket
        self._ctr = [daemon.ctr, "--address", str(daemon.socket), "--namespace", "e2e"]

    def environment(self) -> dict[str, str]:
        """Return the environment in which `ctr` uses this daemon."""
        return {"CONTAINERD_ADDRESS": str(self._socket), "CONTAINERD_NAMESPACE": "e2e"}

    def pull(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        self.forget()
        return self.update(reference, username, password, platform)

    def update(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        """Pull, with what earlier pulls left."""
        credentials = ["--user", f"{username}:{password}"]
        return run(
            [*self._ctr, "images", "pull", *self.transport, *credentials, *_platform(platform), reference],
            timeout_s=PULL_TIMEOUT_S,
        )

    def digest(self, reference: str) -> str:
        shown = run([*self._ctr, "images", "list", f"name=={reference}"]).check()
        (digest,) = _DIGEST.findall(shown.output.replace(reference, ""))
        return str(digest)

    def forget(self) -> None:
        images = run([*self._ctr, "images", "list", "--quiet"]).check().output.split()
        if images:
            run([*self._ctr, "images", "remove", "--sync", *images]).check()

    def run(self, reference: str, *argv: str) -> Result:
        """Run a pulled image; without `argv`, as the image itself says."""
        container = f"run-{sha256(reference.encode()).hexdigest()[:12]}"
        return run([*self._ctr, "run", "--rm", reference, container, *argv])


class Podman:
    """`podman` with storage of its own; `vfs`, which needs no mounts.

    Attributes:
        storage: Prefix of an image's name, with which skopeo writes to that storage.
    """

    refusal: ClassVar = _refusal("Error: ")

    def __init__(self, folder: Path) -> None:
        self.name = "podman"
        self.transport = ["--tls-verify=false"]
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = f"containers-storage:[vfs@{folder / 'root'}+{folder / 'run'}]"
        self._podman = [
            "podman",
            f"--root={folder / 'root'}",
            f"--runroot={folder / 'run'}",
            f"--tmpdir={folder / 'tmp'}",
            "--storage-driver=vfs",
            "--events-backend=none",
        ]

    def pull(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        self.forget()
        return self.update(reference, username, password, platform)

    def update(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        """Pull, with what earlier pulls left."""
        credentials = ["--creds", f"{username}:{password}"]
        return run(
            [*self._podman, "pull", *self.transport, *credentials, *_platform(platform), reference],
            timeout_s=PULL_TIMEOUT_S,
        )

    def pull_with(self, config: Path, reference: str) -> Result:
        """Pull with a configuration folder of the test's."""
        self.forget()
        authentication = f"--authfile={config / 'config.json'}"
        return run(
            [*self._podman, "pull", *self.transport, authentication, reference], timeout_s=PULL_TIMEOUT_S
        )

    def digest(self, reference: str) -> str:
        shown = run([*self._podman, "image", "inspect", "--format", "{{.Digest}}", reference]).check()
        return shown.output.strip()

    def forget(self) -> None:
        run([*self._podman, "image", "rm", "--all", "--force"]).check()

    def run(self, reference: str, *argv: str) -> Result:
        """Run an image of its storage; without `argv`, as the image itself says."""
        limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]  # that need no CAP_SYS_RESOURCE
        return run([*self._podman, "run", "--rm", "--network=none", *limits, reference, *argv])


class Skopeo:
    """`skopeo copy` into a folder, which keeps manifest and blobs byte for byte."""

    refusal: ClassVar = _refusal("level=fatal ")

    def __init__(self, folder: Path) -> None:
        self.name = "skopeo"
        self.transport = ["--src-tls-verify=false"]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def pull(self, reference: str, username: str, password: str, platform: str | None = None) -> Result:
        self.forget()
        credentials = ["--src-creds", f"{username}:{password}"]
        source, target = f"docker://{reference}", f"dir:{self.copied(reference)}"
        return run(
            ["skopeo", *_overrides(platform), "copy", *self.transport, *credentials, source, target],
            timeout_s=PULL_TIMEOUT_S,
        )

    def pull_with(self, config: Path, reference: str) -> Result:
        """Pull with a configuration folder of the test's."""
        self.forget()
        authentication = ["--src-authfile", str(config / "config.json")]
        source, target = f"docker://{reference}", f"dir:{self.copied(reference)}"
        return run(
            ["skopeo", "copy", *self.transport, *authentication, source, target], timeout_s=PULL_TIMEOUT_S
        )

    def tags(self, reference: str, username: str, password: str) -> list[str]:
        """`skopeo list-tags` of a reference's repository."""
        repository = reference.rpartition(":")[0]
        argv = ["skopeo", "list-tags", "--tls-verify=false", f"--creds={username}:{password}"]
        return list(json.loads(run([*argv, f"docker://{repository}"]).check().output)["Tags"])

    def copied(self, reference: str) -> Path:
        """Return the folder that holds `manifest.json` and the blobs, each named by its sha256."""
        return self._folder / sha256(reference.encode()).hexdigest()[:16]

    def digest(self, reference: str) -> str:
        manifest = (self.copied(reference) / "manifest.json").read_bytes()
        return "sha256:" + sha256(manifest).hexdigest()

    def forget(self) -> None:
        for copied in self._folder.iterdir():
            rmtree(copied)
