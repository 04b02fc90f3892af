"""`crane`, `oras` and `regctl`, built from the Go module proxy; each pulls into an OCI image layout."""

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from tests.support.built_programs import go_program
from tests.support.processes import Result, run

PLATFORM = "linux/amd64"
NAMES = ("crane", "oras", "regctl")
_TIMEOUT_S = 100


class GoClient:
    """One of the three, with nothing kept from earlier pulls.

    Args:
        name: One of `NAMES`.
        folder: Holds the layouts that it writes.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._program = str(go_program(name))
        self._folder = folder

    def layout(self, reference: str) -> Path:
        """Return the OCI image layout of a pulled reference."""
        return self._folder / sha256(reference.encode()).hexdigest()[:16]

    def pull(self, reference: str, username: str, password: str, platform: str = PLATFORM) -> Result:
        """Pull one platform of an image, from nothing."""
        target = self.layout(reference)
        rmtree(target, ignore_errors=True)
        match self.name:
            case "crane":
                argv = ["pull", "--insecure", "--format=oci", "--platform", platform, reference, str(target)]
            case "oras":
                source = ["--from-plain-http", "--from-username", username, "--from-password", password]
                into = ["--to-oci-layout", f"{target}:pulled"]
                argv = ["copy", "--platform", platform, *source, reference, *into]
            case _:
                argv = ["image", "copy", "--platform", platform, reference, f"ocidir://{target}:pulled"]
        return self._run(argv, reference, username, password)

    def resolve(self, reference: str, username: str, password: str) -> str:
        """Return the digest that a tag names."""
        match self.name:
            case "crane":
                argv = ["digest", "--insecure", reference]
            case "oras":
                argv = ["resolve", "--plain-http", "-u", username, "-p", password, reference]
            case _:
                argv = ["image", "digest", reference]
        said = self._run(argv, reference, username, password).check().output
        return next(line for line in said.splitlines() if line.startswith("sha256:"))

    def attach(self, file: Path, artifact_type: str, reference: str, username: str, password: str) -> None:
        """Push a file as an artifact that refers to an image (oras)."""
        argv = ["attach", "--plain-http", "-u", username, "-p", password, "--artifact-type", artifact_type]
        self._run([*argv, "--disable-path-validation", reference, str(file)], reference, "", "").check()

    def referrers(self, reference: str, username: str, password: str) -> set[str]:
        """Return the digests of what refers to an image (oras, regctl)."""
        argv, entries = ["artifact", "list", "--format", "body", reference], "manifests"
        if self.name == "oras":
            account = ["-u", username, "-p", password]
            argv, entries = ["discover", "--plain-http", *account, "--format", "json", reference], "referrers"
        said = self._run(argv, reference, username, password).check().output
        found = json.loads(said[said.index("{") :])  # oras warns of the password first
        return {entry["digest"] for entry in found[entries]}

    def digest(self, reference: str) -> str:
        """Return the digest that the layout records."""
        index = json.loads((self.layout(reference) / "index.json").read_bytes())
        (entry,) = index["manifests"]
        return str(entry["digest"])

    def _run(self, argv: list[str], reference: str, username: str, password: str) -> Result:
        host = reference.split("/", 1)[0]
        if self.name == "regctl":
            argv = ["--host", f"reg={host},user={username},pass={password},tls=disabled", *argv]
        with TemporaryDirectory(dir=self._folder) as home:
            if self.name == "crane":
                auth = b64encode(f"{username}:{password}".encode()).decode()
                Path(home, "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
            env = {"HOME": home, "DOCKER_CONFIG": home, "REGCTL_CONFIG": f"{home}/regctl.json"}
            return run([self._program, *argv], env=env, timeout_s=_TIMEOUT_S)
