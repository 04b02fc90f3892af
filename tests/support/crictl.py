"""`crictl`, which pulls and runs as a kubelet does."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.built_programs import go_program
from tests.support.dockerd import Containerd
from tests.support.processes import Result, run, wait_until

_HOST_NETWORK = {"security_context": {"namespace_options": {"network": 2}}}


class Crictl:
    """A client of a containerd that serves CRI.

    Args:
        daemon: Started with a pause image.
        folder: Holds configurations and logs of pods.
    """

    def __init__(self, daemon: Containerd, folder: Path) -> None:
        self._folder = folder / "pods"
        self._folder.mkdir()
        config = self._folder / "crictl.json"
        config.write_text("{}")
        address = f"unix://{daemon.socket}"
        self._crictl = [str(go_program("crictl")), "--config", str(config), "--timeout=60s"]
        self._crictl += ["--runtime-endpoint", address, "--image-endpoint", address]

    def pull(self, reference: str, username: str | None = None, password: str | None = None) -> Result:
        """Pull, with the credential of the pull request."""
        credential = ["--creds", f"{username}:{password}"] if username is not None else []
        return run([*self._crictl, "pull", *credential, reference], timeout_s=100)

    def run(self, reference: str) -> str:
        """Run a pulled image in a pod on the host's network; returns its output when it has ended."""
        pod = self._write("pod", {"metadata": _metadata("pod"), "log_directory": str(self._folder)})
        app = {"metadata": {"name": "app"}, "image": {"image": reference}, "log_path": "app.log"}
        sandbox = self._last_line("runp", pod)
        try:
            container = self._last_line("create", sandbox, self._write("app", app), pod)
            self._last_line("start", container)
            wait_until(lambda: self._ended(container), timeout_s=30, what=f"{reference} has ended")
            return self._last_line("logs", container)
        finally:
            self._last_line("rmp", "--force", sandbox)

    def _ended(self, container: str) -> bool:
        return container in self._last_line("ps", "--all", "--quiet", "--no-trunc", "--state=exited")

    def _write(self, name: str, fields: Mapping[str, object]) -> str:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps({**fields, "linux": _HOST_NETWORK}))
        return str(path)

    def _last_line(self, *argv: str) -> str:
        output = run([*self._crictl, *argv]).check().output.strip()
        return output.splitlines()[-1] if output else ""


def _metadata(name: str) -> dict[str, object]:
    return {"name": name, "namespace": "e2e", "uid": f"{name}-{time.monotonic_ns()}", "attempt": 1}
