"""The chart's nginx, with the configuration that Helm renders: it forwards, and sends objects itself."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.integration.deploy.test_helm import CHART, DEPLOY, PROXY, rendered
from tests.support.certificates import CLIENT, SERVER, CertificateFiles, TestCa
from tests.support.http import request
from tests.support.http_server import Handler, HttpServer
from tests.support.processes import Process, free_port, listening

OBJECT = b"ciphertext of a layer"
FOLDER = "/etc/nginx/crisper"
SERVERS = """
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {server.certificate};
        ssl_certificate_key {server.key};
        ssl_client_certificate {proxies_ca};
        ssl_verify_client on;
        location /v2/ {{
            add_header X-Accel-Redirect /_blobs/objects/ab/abcd;
            add_header Docker-Distribution-Api-Version registry/2.0;
            return 200;
        }}
        location / {{ return 200 "api"; }}
    }}
}}
"""


class Objects(Handler):
    """An object store that shows what it was asked."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers.items())))
        self.answer(200, OBJECT, "application/octet-stream")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nginx's user can reach."""
    with tempfile.TemporaryDirectory(prefix="helm-proxy-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start(folder: Path, objects_port: int) -> tuple[Process, int, CertificateFiles]:
    """Run nginx with the ConfigMap's files, our own addresses in them, and its servers beside it."""
    port, servers_port = free_port(), free_port()
    objects = f"delivery.objectsUrl=http://127.0.0.1:{objects_port}/crisper/blobs"
    (config,) = (each["data"] for each in rendered(objects, values=PROXY) if each["kind"] == "ConfigMap")
    ca, proxies = TestCa.create(folder / "servers-ca"), TestCa.create(folder / "proxies")
    public = ca.issue("public", hosts=["127.0.0.1"], purposes=SERVER)
    server = ca.issue("server", hosts=["servers.example.com"], purposes=SERVER)
    for name, files in (("public", public), ("client", proxies.issue("proxy", purposes=CLIENT))):
        (folder / name).mkdir()
        (folder / name / "tls.crt").symlink_to(files.certificate)
        (folder / name / "tls.key").symlink_to(files.key)
    (folder / "node-ca").symlink_to(ca.folder)
    (folder / "conf").mkdir()
    for name, text in config.items():
        own = text.replace("/tmp/", f"{folder}/").replace(FOLDER, str(folder))  # noqa: S108
        own = own.replace("listen 8443", f"listen 127.0.0.1:{port}")
        for service in ("crisper-pull", "crisper-api"):
            own = own.replace(f"server {service}:443", f"server 127.0.0.1:{servers_port}")
        if name == "nginx.conf":
            more = SERVERS.format(port=servers_port, server=server, proxies_ca=proxies.path)
            own = own.rstrip().removesuffix("}") + more
        (folder / "conf" / name).write_text(own)
    argv = ["nginx", "-p", str(folder), "-c", str(folder / "conf" / "nginx.conf"), "-g", "daemon off;"]
    return Process(argv, folder / "nginx.log", ready=lambda: listening(port)), port, public


def test_the_proxy_sends_the_object_and_keeps_the_clients_credentials_from_its_store(folder: Path) -> None:
    Objects.asked.clear()
    with HttpServer(Objects) as objects:
        process, port, public = start(folder, objects.port)
        with process:
            url, tls = f"https://127.0.0.1:{port}", public.trusting()
            headers = {"Authorization": "Bearer secret", "Range": "bytes=5-9", "Cookie": "secret"}
            sent = request("GET", f"{url}/v2/a/b/c/blobs/sha256:1", headers=headers, tls=tls).expect(200)
            assert sent.body == OBJECT
            assert request("GET", f"{url}/api/public/x", tls=tls).expect(200).body == b"api"
            assert request("GET", f"{url}/_blobs/objects/ab/abcd", tls=tls).status == 404
    ((path, received),) = Objects.asked
    assert path == "/crisper/blobs/objects/ab/abcd"
    assert received["Range"] == "bytes=5-9"
    assert "secret" not in str(received)


@pytest.mark.parametrize("name", ["nginx-replicas.conf", "nginx-client-cert.conf"])
def test_the_chart_has_the_supplied_configuration(name: str) -> None:
    """A chart cannot read files outside its folder: copy the file again when this fails."""
    assert (CHART / "files" / name).read_text() == (DEPLOY / "proxy" / name).read_text()
