"""`crisper serve` as a process: first start, its children, its end, and what happens when they die."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cryptography import x509

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import request
from tests.support.processes import free_port, run, wait_until
from tests.support.upstream import Upstream


def ledgers_of(server: CrisperServer) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if re.search(r"(redis|valkey)-server", child.name())]


def ledger_of(server: CrisperServer) -> psutil.Process:
    return ledgers_of(server)[0]


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def workers_of(server: CrisperServer) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if alive(child) and "registry.server.workers" in child.cmdline()]


@contextlib.contextmanager
def a_shop(folder: Path, upstream: Upstream, image: images.Image, **env: str) -> Iterator[Shop]:
    with CrisperServer(folder, insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, image)


def test_the_first_start_makes_every_secret_for_its_owner_only(folder: Path) -> None:
    with CrisperServer(folder) as server:
        said = server.log.read_text()
        assert server.url in said
        assert str(server.data_dir / "operator.key") in said
        assert server.operator_key not in said
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        for path in server.data_dir.rglob("*"):
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        names = {path.name for path in server.data_dir.iterdir()}
        assert {"operator.key", "keyring.json", "signing-keys", "node-ca", "catalog.db", "blobs"} <= names
        certificate = (server.data_dir / "node-ca" / "certificate.pem").read_bytes()
        assert x509.load_pem_x509_certificate(certificate).issuer


def test_a_second_start_keeps_every_secret(folder: Path) -> None:
    server = CrisperServer(folder)
    with server:
        organization = server.operator.create_organization()
        before = (server.operator_key, request("GET", f"{server.url}/.well-known/jwks.json").json())
    with server:
        assert (server.operator_key, request("GET", f"{server.url}/.well-known/jwks.json").json()) == before
        server.operator.call("POST", "/organizations", {"name": organization.name}).expect(409)


def test_a_second_server_on_the_same_folder_is_refused(folder: Path) -> None:
    with CrisperServer(folder) as server:
        second = run([str(CRISPER), "serve", "--port", "0", "--data-dir", str(server.data_dir)])
        assert second.returncode == 1
        assert "another server is using" in second.output


def test_the_ledger_dies_with_a_killed_server_and_the_next_one_takes_it_up(
    folder: Path, upstream: Upstream
) -> None:
    with a_shop(folder, upstream, images.multi_platform()) as shop:
        token = shop.mint()
        ledger = ledger_of(shop.server)
        shop.server.kill9()
        assert not alive(ledger)
        shop.server.start()
        shop.exchange(token).expect(200)


def test_a_killed_ledger_is_started_again_and_has_forgotten_nothing(folder: Path, upstream: Upstream) -> None:
    with a_shop(folder, upstream, images.multi_platform()) as shop:
        used, unused = shop.mint(), shop.mint()
        bearer = shop.bearer(used)
        shop.server.operator.complete(used)
        killed = ledger_of(shop.server)
        killed.kill()
        wait_until(
            lambda: shop.server.ready() and ledgers_of(shop.server)[:1] not in ([], [killed]),
            timeout_s=20,
            what="the ledger is back",
        )
        shop.get("manifests/latest", bearer).expect(401)
        shop.exchange(used).expect(401)
        shop.exchange(unused).expect(200)


def test_a_ledger_that_does_not_answer_is_named_and_nothing_is_granted(
    folder: Path, upstream: Upstream
) -> None:
    with a_shop(folder, upstream, images.multi_platform()) as shop:
        token = shop.mint()
        bearer = shop.bearer(shop.mint())
        ledger = ledger_of(shop.server)
        ledger.suspend()
        try:
            wait_until(lambda: not shop.server.ready(), timeout_s=10, what="the server is not ready")
            unready = request("GET", f"{shop.server.url}/readyz").expect(503).json()
            assert unready == {"ready": False, "failing": ["ledger"]}
            refused = shop.get("manifests/latest", bearer).expect(503)
            assert refused.headers["Retry-After"]
            shop.exchange(token).expect(503)
            request("GET", f"{shop.server.url}/healthz").expect(200)
        finally:
            ledger.resume()
        wait_until(shop.server.ready, timeout_s=10, what="the ledger answers again")
        shop.exchange(token).expect(200)
        shop.get("manifests/latest", bearer).expect(200)


def test_a_stopping_server_finishes_what_it_is_sending(folder: Path, upstream: Upstream) -> None:
    with a_shop(folder, upstream, images.random_layers()) as shop:
        bearer = shop.bearer()
        manifest = shop.get("manifests/latest", bearer).json()
        layer = max(manifest["layers"], key=lambda entry: entry["size"])
        with socket.create_connection(("127.0.0.1", shop.server.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            slow.sendall(
                f"GET /v2/{shop.repository}/blobs/{layer['digest']} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {bearer}\r\nConnection: close\r\n\r\n".encode()
            )
            first = slow.recv(1024)
            assert first.startswith(b"HTTP/1.1 200")
            os.kill(shop.server.process.pid, signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", shop.server.port))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            received = len(first)
            while chunk := slow.recv(1 << 20):
                received += len(chunk)
        assert received > layer["size"]
        assert shop.server.stop() == 0


def test_an_import_that_a_stopping_server_leaves_is_taken_up_by_the_next(
    folder: Path, upstream: Upstream
) -> None:
    server = CrisperServer(folder, insecure_registries=[upstream.host])
    with server:
        organization = server.operator.create_organization()
        group = server.customer(organization).create_group(
            upstream.reference(images.random_layers()),
            username=upstream.username,
            password=upstream.password,
        )
    with server:
        state = server.customer(organization).wait_settled(group, timeout_s=10)["current_state"]
        assert state["status"] == "stopped"


def test_several_workers_share_the_port_and_a_dead_one_is_replaced(folder: Path, upstream: Upstream) -> None:
    with a_shop(folder, upstream, images.multi_platform(), CRISPER_WORKERS="2") as shop:
        before = workers_of(shop.server)
        assert len(before) == 2
        token = shop.mint()
        for _ in range(6):  # new connections, spread over the workers: one session all the same
            bearer = shop.exchange(token).expect(200).json()["token"]
            shop.get("manifests/latest", bearer).expect(200)
        redeemed = shop.server.operator.redemptions(token)
        assert len(redeemed) == 1
        metrics = request("GET", f"{shop.server.url}/metrics").expect(200).body.decode()
        assert re.search(r'crisper_http_requests_total\{status="200",surface="/token"\} [1-9]', metrics)
        before[0].kill()
        wait_until(
            lambda: len({w.pid for w in workers_of(shop.server)} - {before[0].pid}) == 2,
            timeout_s=60,
            what="the dead worker is replaced",
        )
        wait_until(shop.server.ready, timeout_s=10, what="the port answers")
        shop.exchange(shop.mint()).expect(200)
    assert not any(map(alive, before))


def test_workers_die_with_a_killed_parent(folder: Path) -> None:
    server = CrisperServer(folder, env={"CRISPER_WORKERS": "2"})
    with server:
        workers = workers_of(server)
        server.kill9()
        assert not any(map(alive, workers))
        server.start()


def test_production_names_every_unsafe_default(folder: Path) -> None:
    refused = run(
        [str(CRISPER), "serve", "--port", "0", "--data-dir", str(folder)], env={"CRISPER_ENV": "production"}
    )
    assert refused.returncode == 1
    for name in ("CRISPER_REDIS_URL", "CRISPER_DATABASE_URL", "CRISPER_KEYRING", "CRISPER_PUBLIC_URL"):
        assert name in refused.output
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--port", "99999"], "port", 2),
        (["--roles", "pull,everything"], "roles", 2),
        (["--public-url", "registry.example.com"], "scheme", 2),
        (["--public-url", "https://user:hunter2@registry.example.com"], "password", 2),
        (["--public-url", "https://registry.example.com/crisper"], "path", 2),
        (["--public-url", "https://registry"], "Docker Hub", 2),
        (["--tls-cert", "/nowhere.pem"], "both", 1),
        (["--insecure-registry", "http://"], "--insecure-registry", 1),
    ],
)
def test_bad_settings_are_told_and_nothing_starts(
    folder: Path, arguments: list[str], said: str, code: int
) -> None:
    refused = run([str(CRISPER), "serve", "--data-dir", str(folder), *arguments])
    assert (refused.returncode, "Traceback" in refused.output) == (code, False)
    assert said in refused.output
    assert "hunter2" not in refused.output


def test_an_operator_key_that_others_can_read_is_refused(folder: Path) -> None:
    with CrisperServer(folder) as server:
        pass
    (server.data_dir / "operator.key").chmod(0o644)
    refused = run([str(CRISPER), "serve", "--port", "0", "--data-dir", str(server.data_dir)])
    assert (refused.returncode, "chmod 600" in refused.output) == (1, True)


def test_it_speaks_tls_with_the_certificate_that_it_is_given(folder: Path) -> None:
    folder.mkdir()
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    port, log = free_port(), (folder / "log").open("wb")
    server = subprocess.Popen(
        [CRISPER, "serve", "--port", str(port), "--data-dir", str(folder / "data"),
         "--tls-cert", str(certificate), "--tls-key", str(key)],
        stdout=log, stderr=log,
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=str(certificate))

    def challenge() -> str:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(
                f"GET /v2/ HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode()
            )
            return secure.recv(4096).decode()

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return "401" in challenge()
        return False

    try:
        wait_until(answers, timeout_s=20, what="TLS is answered")
        assert f'realm="https://localhost:{port}/token"' in challenge()
    finally:
        server.terminate()
        assert server.wait(30) == 0
        log.close()


def test_the_bundled_ledger_serves_where_no_redis_is_installed(folder: Path) -> None:
    bare = folder.parent / "bin"
    bare.mkdir()
    for tool in ("uname", "sh", "setpriv"):
        (bare / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    with CrisperServer(folder, env={"PATH": str(bare)}) as server:
        assert "valkey" in ledger_of(server).exe()
        server.operator.create_organization()


def test_a_data_folder_with_a_long_path_works(folder: Path) -> None:
    with CrisperServer(folder / ("deep" * 30)) as server:
        server.operator.create_organization()
        assert server.ready()
