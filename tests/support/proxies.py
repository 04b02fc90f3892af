"""The shipped configurations of proxies, run in front of a server."""

from pathlib import Path

from tests.support.certificates import CertificateFiles
from tests.support.processes import Process, free_port, listening

SHIPPED = Path(__file__).parents[2] / "deploy" / "proxy"


class Proxy:
    """A running proxy; entered, its URL."""

    def __init__(self, argv: list[str], log: Path, port: int) -> None:
        self._process = Process(argv, log, ready=lambda: listening(port))
        self.pid = self._process.pid
        self._url = f"https://127.0.0.1:{port}"

    def __enter__(self) -> str:
        return self._url

    def __exit__(self, *_: object) -> None:
        self._process.stop()


def nginx(folder: Path, tls: CertificateFiles, blobs: Path | None = None, workers: int = 1) -> Proxy:
    """Start nginx with the shipped configuration, before the server's socket `folder/proxy.sock`.

    Args:
        folder: Has `node-ca.crt`; nginx's own user can reach it.
        blobs: The server's folder of objects, from which nginx sends them.
    """
    port, config = free_port(), (SHIPPED / "nginx.conf").read_text()
    config = config.replace("/etc/nginx/crisper/client-cert.conf", str(SHIPPED / "nginx-client-cert.conf"))
    config = config.replace("/run/crisper/proxy.sock", str(folder / "proxy.sock"))
    config = config.replace("/etc/nginx/crisper/registry.crt", str(tls.certificate))
    config = config.replace("/etc/nginx/crisper/registry.key", str(tls.key))
    config = config.replace("/etc/nginx/crisper/node-ca.crt", str(folder / "node-ca.crt"))
    config = config.replace("/var/lib/crisper/blobs", str(blobs or folder))
    config = config.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    main = folder / "nginx.conf"
    main.write_text(
        f"user www-data; worker_processes {workers}; daemon off; pid {folder / 'nginx.pid'};\n"
        f"error_log {folder / 'nginx-error.log'}; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder / 'body'};\n"
        f"proxy_temp_path {folder / 'temp'};\n{config}\n}}\n"
    )
    return Proxy(["nginx", "-p", str(folder), "-c", str(main)], folder / "nginx.log", port)
