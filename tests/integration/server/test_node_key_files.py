"""A node's encryption keys on the node: `crisper node enroll --runtime` and `renew`, with a real server."""

import json
import signal
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from auth.nodes.ca import NodeCA
from registry.oci.node_key import NodeKey
from tests.support.certified import Certified
from tests.support.crisper import CRISPER
from tests.support.processes import Result, run

CONTAINERD = "etc/containerd/ocicrypt/keys"


class Machine:
    """A machine whose file system is at `root`."""

    def __init__(self, site: Certified, root: Path) -> None:
        self.site = site
        self.root = root
        self.node_id, self.secret = site.server.operator.create_certified_node()
        self.label = site.server.host.replace(":", "_")
        self.state_file = root / "etc/crisper/nodes" / site.server.host / "encryption.json"

    def enroll(self, *options: str) -> Result:
        argv = [str(CRISPER), "node", "enroll", self.site.url, self.node_id, "--root", str(self.root)]
        argv += ["--ca", str(self.site.tls.ca), *options]
        return run(argv, env={"CRISPER_ENROLMENT_SECRET": self.secret})

    def renew(self, *options: str) -> Result:
        return run([str(CRISPER), "node", "renew", "--root", str(self.root), *options])

    def keys(self, folder: str = "etc/crisper/keys") -> dict[str, Path]:
        """Return the keys of a folder by thumbprint; each file there is a private key in PKCS8."""
        found = {}
        for path in (self.root / folder).iterdir():
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
            private = serialization.load_pem_private_key(path.read_bytes(), None)
            public = private.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            thumbprint = NodeKey.parse(public).thumbprint
            assert path.name == f"{self.label}-{thumbprint}.pem"
            found[thumbprint] = path
        return found

    def files(self) -> dict[Path, bytes]:
        """Return the contents of all files except the certificate, which each enrolment replaces."""
        certificate = self.state_file.with_name("node.crt")
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.resolve() != certificate}

    def links(self) -> list[str]:
        folder = self.root / "etc/crisper/decryption"
        files = [folder / f"{self.label}.pem", folder / f"{self.label}.previous.pem"]
        return [file.resolve(strict=True).stem.removeprefix(f"{self.label}-") for file in files]

    def known(self) -> dict[str, Any]:
        """Return the node as the server knows it."""
        node = self.site.server.operator.call("GET", f"/nodes/{self.node_id}").expect(200).json()
        return dict(node)

    def changes(self) -> int:
        events = self.site.server.operator.events(type="node.key_changed")
        return sum(event["node_id"] == self.node_id for event in events)

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.state_file.read_text()))

    def age(self, **hours: float) -> None:
        """Set the ages of retired keys, by thumbprint."""
        state = self.state()
        for thumbprint, age in hours.items():
            state["retired"][thumbprint] = (datetime.now(UTC) - timedelta(hours=age)).isoformat()
        self.state_file.write_text(json.dumps(state))

    def age_certificate(self) -> None:
        """Replace the certificate with one that is past half of its lifetime."""
        path = self.state_file.with_name("node.crt")
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
        authority = NodeCA.load(self.site.server.data_dir / "node-ca")
        half_gone = authority.issue(key, self.node_id, datetime.now(UTC) - timedelta(hours=13))  # type: ignore[arg-type]
        path.write_bytes(half_gone.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def machine(certified: Certified, tmp_path: Path) -> Machine:
    return Machine(certified, tmp_path)


def test_a_machine_enrols_its_key_for_its_runtime(machine: Machine) -> None:
    shown = json.loads(machine.enroll("--runtime", "containerd", "--json").check().output)
    node, (thumbprint,) = machine.known(), machine.keys()
    assert (node["key_thumbprint"], node["runtime"]) == (thumbprint, "containerd")
    assert (shown["key_thumbprint"], shown["runtime"]) == (thumbprint, "containerd")
    assert set(machine.keys(CONTAINERD)) == {thumbprint}
    assert machine.links() == [thumbprint, thumbprint]
    assert (machine.root / "etc/crisper/keys").stat().st_mode & 0o777 == 0o700
    assert (
        "/etc/containerd/ocicrypt/keys" in (machine.root / "etc/containerd/conf.d/crisper.toml").read_text()
    )
    tls_key = (machine.state_file.with_name("node.key")).read_bytes()
    assert tls_key != machine.keys()[thumbprint].read_bytes()

    files = machine.files()
    machine.enroll("--runtime", "containerd").check()
    machine.enroll().check()
    machine.renew().check()
    assert machine.files() == files
    assert machine.changes() == 1
    log = machine.site.server.log.read_text()
    assert "PRIVATE KEY" not in log


@pytest.mark.parametrize("runtime", ["podman", "cri-o"])
def test_each_runtime_gets_its_key_where_it_looks(machine: Machine, runtime: str) -> None:
    machine.enroll("--runtime", "containerd").check()
    assert set(machine.keys(CONTAINERD)) == set(machine.keys())
    output = machine.enroll("--runtime", runtime).check().output
    assert machine.known()["runtime"] == runtime
    assert machine.keys(CONTAINERD) == {}  # it would not be rotated there
    if runtime == "cri-o":
        assert set(machine.keys("etc/crio/keys")) == set(machine.keys())
    else:
        assert f"--decryption-key /etc/crisper/decryption/{machine.label}.pem" in output
    assert len(machine.links()) == 2


def test_a_machine_without_a_runtime_announces_its_key(machine: Machine) -> None:
    machine.enroll().check()
    node = machine.known()
    assert (node["key_thumbprint"], node["runtime"]) == (next(iter(machine.keys())), None)
    assert not (machine.root / "etc/containerd/ocicrypt").exists()
    wrong = machine.enroll("--runtime", "rkt")
    assert (wrong.returncode, "containerd" in wrong.output) == (2, True)


def test_a_due_renewal_rotates_the_key_and_keeps_it_as_long_as_sessions_last(machine: Machine) -> None:
    machine.enroll("--runtime", "containerd").check()
    (first,) = machine.keys()
    machine.age_certificate()
    machine.renew().check()
    second = machine.known()["key_thumbprint"]
    assert second != first
    assert set(machine.keys()) == set(machine.keys(CONTAINERD)) == {first, second}
    assert machine.links() == [second, first]

    machine.age_certificate()
    machine.renew().check()  # a session may still need the first key, which the server would drop
    assert machine.known()["key_thumbprint"] == second
    machine.age(**{first: 24.5})
    machine.renew().check()
    assert first in set(machine.keys())
    machine.age(**{first: 25.1})
    machine.renew().check()
    assert set(machine.keys()) == set(machine.keys(CONTAINERD)) == {second}
    assert machine.links() == [second, second]
    assert machine.state()["retired"] == {}

    machine.renew("--force").check()
    machine.renew("--force").check()
    assert len(machine.keys(CONTAINERD)) == 3
    node = machine.known()
    assert machine.links() == [node["key_thumbprint"], node["previous_key_thumbprint"]]


def test_a_wrong_clock_of_the_node_deletes_no_key_early(machine: Machine) -> None:
    machine.enroll("--runtime", "containerd").check()
    (first,) = machine.keys()
    machine.renew("--force").check()
    machine.age(**{first: -9000})  # recorded while the clock was ahead
    machine.renew("--force").check()
    retired = datetime.fromisoformat(machine.state()["retired"][first])
    assert abs(retired - datetime.now(UTC)) < timedelta(minutes=5)
    assert first in set(machine.keys(CONTAINERD))


def test_lost_files_and_a_lost_state_are_repaired(machine: Machine) -> None:
    machine.enroll("--runtime", "containerd").check()
    (first,) = machine.keys()
    machine.keys(CONTAINERD)[first].unlink()
    machine.renew().check()
    assert set(machine.keys(CONTAINERD)) == {first}

    machine.state_file.unlink()
    machine.enroll("--runtime", "containerd").check()
    second = machine.known()["key_thumbprint"]
    assert set(machine.keys(CONTAINERD)) == {first, second}
    assert set(machine.state()["retired"]) == {first}

    machine.keys()[second].unlink()
    machine.renew().check()
    third = machine.known()["key_thumbprint"]
    assert third in set(machine.keys(CONTAINERD))
    assert second not in set(machine.keys(CONTAINERD))

    machine.state_file.write_text("{")
    damaged = machine.renew()
    assert (damaged.returncode, "crisper node enroll" in damaged.output) == (1, True)


def test_a_machine_that_enrolled_before_keys_existed_gets_one_at_its_next_renewal(machine: Machine) -> None:
    machine.enroll().check()
    machine.state_file.unlink()
    for path in machine.keys().values():
        path.unlink()
    machine.renew().check()
    assert machine.known()["key_thumbprint"] in set(machine.keys())


def test_a_certificate_is_renewed_even_if_keys_cannot_be_written(machine: Machine) -> None:
    machine.enroll().check()
    keys = machine.root / "etc/crisper/keys"
    keys.rename(keys.with_name("moved"))
    keys.touch()
    certificate = machine.state_file.with_name("node.crt")
    before = certificate.read_bytes()
    refused = machine.renew("--force")
    assert (refused.returncode, f"{keys}" in refused.output) == (1, True)
    assert "Traceback" not in refused.output
    assert certificate.read_bytes() != before


KILLED = """
import os, signal, sys
root, left = sys.argv[1], int(sys.argv[2])
def watch(event, args):
    global left
    if event in ("os.rename", "os.remove", "os.symlink", "os.mkdir") and root in str(args) \
            or event == "socket.connect":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
from registry.cli.main import main
sys.argv = ["crisper", "node", "renew", "--force", "--root", root]
sys.addaudithook(watch)
main()
"""


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_crash_at_any_step_leaves_the_key_that_the_server_knows(machine: Machine) -> None:
    """Kill a rotation before each of its steps: file changes and connections."""
    machine.enroll("--runtime", "containerd").check()
    steps = 0
    while True:
        steps += 1
        retired = machine.state()["retired"]
        machine.age(**dict.fromkeys(retired, 26))  # so that each run also deletes
        before = machine.known()["key_thumbprint"]
        killed = run([sys.executable, "-c", KILLED, str(machine.root), str(steps)])
        known = machine.known()
        assert known["key_thumbprint"] in set(machine.keys(CONTAINERD)), steps
        assert known["key_thumbprint"] in machine.links(), steps
        if known["key_thumbprint"] != before:
            assert before in set(machine.keys(CONTAINERD)), steps
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.output
        machine.renew().check()
        known, state = machine.known(), machine.state()
        assert (known["key_thumbprint"], None) == (state["current"], state["next"]), steps
        assert set(machine.keys()) == set(machine.keys(CONTAINERD)) == {state["current"], *state["retired"]}
        assert machine.links()[0] == state["current"]
        own = {machine.state_file.with_name("node.key"), *machine.keys().values()}
        with_keys = {path for path, text in machine.files().items() if b"PRIVATE KEY" in text}
        assert {path.resolve() for path in with_keys} == {*own, *machine.keys(CONTAINERD).values()}, steps
    assert steps > 12


class OldRegistry(BaseHTTPRequestHandler):
    """Answers like a registry that does not know encryption keys."""

    status = 404
    ca: NodeCA

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = x509.load_pem_x509_csr(body["csr"].encode()).public_key()
        made = self.ca.issue(key, "n", datetime.now(UTC))  # type: ignore[arg-type]
        pem = made.public_bytes(serialization.Encoding.PEM).decode()
        self._answer(200, json.dumps({"certificate": pem, "ca": self.ca.certificate_pem.decode()}).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.status, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def old_registry(certified: Certified, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    OldRegistry.ca = NodeCA.create(tmp_path / "ca")
    with ThreadingHTTPServer(("127.0.0.1", 0), OldRegistry) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certified.tls.certificate, certified.tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "is_tolerated"), [(404, True), (401, True), (500, False)])
def test_an_older_registry_does_not_break_enrolment(  # noqa: PLR0917
    certified: Certified,
    old_registry: ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    is_tolerated: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(OldRegistry, "status", status)
    url, root = f"https://127.0.0.1:{old_registry.server_port}", tmp_path / "root"
    argv = [str(CRISPER), "node", "enroll", url, "n", "--ca", str(certified.tls.ca), "--root", str(root)]
    enrolled = run([*argv, "--runtime", "containerd"], env={"CRISPER_ENROLMENT_SECRET": "s"})
    renewed = run([str(CRISPER), "node", "renew", "--root", str(root)])
    for result in (enrolled, renewed):
        assert result.ok is is_tolerated, result.output
        assert ("does not support encryption keys" in result.output) is is_tolerated
    assert (root / "etc/crisper/nodes" / f"127.0.0.1:{old_registry.server_port}" / "node.crt").exists()
    assert len(list((root / CONTAINERD).iterdir())) == 1
