"""An edge cache: nginx with the configuration that is shipped."""

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp

from tests.support.crisper import CrisperServer
from tests.support.processes import Process, free_port, listening

SHIPPED = Path(__file__).parents[2] / "deploy" / "edge"


class EdgeCache(Process):
    """An edge at `localhost`, which is another host for clients than the registry's `127.0.0.1`.

    Args:
        server: The registry, from which it fetches.
        port: Its port; any free one by default.

    Attributes:
        registered: Its name at the registry, if a test needs it.
    """

    registered = ""

    def __init__(self, server: CrisperServer, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.folder = Path(mkdtemp(prefix="edge-"))
        self.folder.chmod(0o755)  # nginx's own user reads it
        self._server = server
        (self.folder / "nginx.conf").write_text(self._config())

    def start(self, key: str) -> "EdgeCache":
        """Start it with its key, or again with what it has kept."""
        (self.folder / "key.conf").write_text(f'proxy_set_header Authorization "Bearer {key}";\n')
        argv = ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        super().__init__(argv, self.folder / "nginx.log", ready=lambda: listening(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def requests(self) -> list[dict[str, object]]:
        """The access log."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies, as far as its log says."""
        return sum(int(str(each["bytes"])) for each in self.requests if each["status"] in {200, 206})

    def _config(self) -> str:
        config = (SHIPPED / "nginx.conf").read_text()
        trusted = self._server.tls.ca if self._server.tls else None
        changes = {
            "/var/cache/nginx/crisper-edge": str(self.cache),
            "/var/log/nginx/crisper-edge.log": str(self.folder / "access.log"),
            "/etc/nginx/crisper-edge/key.conf": str(self.folder / "key.conf"),
            "registry.example.com:443": self._server.host,
            "registry.example.com": "localhost",  # nginx verifies names, not addresses
            "/etc/ssl/certs/ca-certificates.crt": str(trusted or "/etc/ssl/certs/ca-certificates.crt"),
            "listen 443 ssl": f"listen 127.0.0.1:{self.port}",
            "listen 127.0.0.1:8081": f"listen 127.0.0.1:{free_port()}",
        }
        if trusted is None:
            changes["https://crisper_registry"] = "http://crisper_registry"
        for shipped, own in changes.items():
            assert shipped in config
            config = config.replace(shipped, own)
        lines = [line for line in config.splitlines() if not line.strip().startswith("ssl_certificate")]
        return "\n".join(
            [
                f"user www-data; worker_processes 2; daemon off; pid {self.folder}/nginx.pid;",
                f"error_log {self.folder}/error.log; events {{}}",
                f"http {{ client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/temp;",
                *lines,
                "}",
            ]
        )


def metric(text: str, name: str) -> float:
    """Return the sum of a metric over its labels."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
