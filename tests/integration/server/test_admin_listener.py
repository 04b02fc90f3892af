"""The administration listener, and what the main listener serves without it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import request
from tests.support.processes import free_port, run

BOUND = 128
PRIVATE = ("/metrics", "/openapi.json", "/docs")


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def server(tmp_path: Path, address: str, workers: int) -> Iterator[CrisperServer]:
    env = {"CRISPER_ADMIN_ADDRESS": address, "CRISPER_WORKERS": str(workers)}
    with CrisperServer(tmp_path, env=env) as started:
        yield started


@pytest.fixture
def moved(tmp_path: Path, address: str) -> Iterator[CrisperServer]:
    env = {"CRISPER_ADMIN_ADDRESS": address, "CRISPER_ADMIN_ROUTES": "operator,portal"}
    with CrisperServer(tmp_path, env=env) as started:
        yield started


def test_metrics_documents_and_details_leave_the_main_listener(server: CrisperServer, address: str) -> None:
    for path in PRIVATE:
        request("GET", f"{server.url}{path}").expect(404)
        request("GET", f"http://{address}{path}").expect(200)
    assert request("GET", f"{server.url}/readyz").expect(200).json() == {"ready": True}
    assert request("GET", f"http://{address}/readyz").expect(200).json() == {"ready": True, "failing": []}
    request("GET", f"http://{address}/v2/").expect(404)
    server.operator.create_organization()
    request("GET", f"{server.url}/sign-in").expect(200)


def test_operator_api_and_portal_move_on_request(moved: CrisperServer, address: str) -> None:
    key = {"Authorization": f"Bearer {moved.operator_key}"}
    request("GET", f"{moved.url}/api/v1/nodes", headers=key).expect(404)
    request("GET", f"{moved.url}/sign-in").expect(404)
    request("GET", f"http://{address}/api/v1/nodes", headers=key).expect(200)
    request("GET", f"http://{address}/sign-in").expect(200)
    paths = request("GET", f"http://{address}/openapi.json").expect(200).json()["paths"]
    assert "/api/v1/nodes" in paths
    assert any(path.startswith("/api/public/") for path in paths)


def test_what_nodes_call_themselves_stays_on_the_main_listener(moved: CrisperServer) -> None:
    certificate = {"csr": "-----BEGIN CERTIFICATE REQUEST-----"}
    request("POST", f"{moved.url}/api/v1/nodes/n-1/certificate", body=certificate).expect(400, 401)
    request("PUT", f"{moved.url}/api/v1/nodes/n-1/encryption-key", body={"public_key": "x"}).expect(401)
    request("POST", f"{moved.url}/api/v1/pull-tokens/t-1/complete").expect(401)


def test_the_command_line_finds_the_moved_operator_api(moved: CrisperServer) -> None:
    listed = run([str(CRISPER), "node", "list", "--json", "--data-dir", str(moved.data_dir)])
    assert listed.check().output.strip() == "[]"
    run([str(CRISPER), "doctor", "--data-dir", str(moved.data_dir)]).check()


def test_one_listener_serves_everything_by_default(tmp_path: Path) -> None:
    with CrisperServer(tmp_path) as server:
        for path in PRIVATE:
            request("GET", f"{server.url}{path}").expect(200)
        assert request("GET", f"{server.url}/readyz").expect(200).json() == {"ready": True, "failing": []}


def test_its_connections_are_bounded_and_idle_ones_make_room(tmp_path: Path, address: str) -> None:
    host, _, port = address.partition(":")
    with CrisperServer(tmp_path, env={"CRISPER_ADMIN_ADDRESS": address}) as server, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(3 * BOUND)]
        request("GET", f"http://{address}/metrics").expect(200)
        request("GET", f"{server.url}/healthz").expect(200)
        assert sum(map(is_open, idle)) < BOUND
        assert is_open(idle[-1])
        taken = psutil.Process(server.process.pid).net_connections()
        assert sum(each.status == "ESTABLISHED" and each.laddr.port == int(port) for each in taken) <= BOUND


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
