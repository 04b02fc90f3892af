"""The registry that comes with go-containerregistry: it takes closed ranges, and answers 416 to open ones."""

from pathlib import Path

from tests.support.built_programs import go_program
from tests.support.processes import Process, free_port, listening


class GoRegistry(Process):
    """`crane registry serve` on a free port of 127.0.0.1; without a password.

    Args:
        folder: Holds its blobs and its log. Manifests are in memory: a restart loses them.
        port: Where it listens; any free one by default.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        blobs = folder / "blobs"
        blobs.mkdir(exist_ok=True)
        argv = [str(go_program("crane")), "registry", "serve", "--address", self.host, "--disk", str(blobs)]
        super().__init__(argv, folder / "registry.log", ready=lambda: listening(self.port))
