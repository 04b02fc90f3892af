"""A real Kubernetes API server with etcd. No controllers and no nodes: objects stay as they were admitted."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.built_programs import go_program, go_tool
from tests.support.http import Response, request
from tests.support.processes import Process, Result, free_port, listening, run

_TOKEN = "a-token-of-this-test-run-only"
_START_S = 120


class Cluster:
    """The API server's address, and Helm on it.

    Args:
        folder: Holds the kubeconfig.
        certificate: The API server's own.
    """

    def __init__(self, url: str, folder: Path, certificate: Path) -> None:
        self._url = url
        self._tls = ssl.create_default_context(cafile=certificate)
        self._config = folder / "kubeconfig"
        named = {"name": "test"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [named | {"cluster": {"server": url, "certificate-authority": str(certificate)}}],
            "users": [named | {"user": {"token": _TOKEN}}],
            "contexts": [named | {"context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        self._config.write_text(yaml.safe_dump(config))

    def helm(self, namespace: str, *argv: str) -> Result:
        """Run Helm in a namespace."""
        options = ("--kubeconfig", str(self._config), "--namespace", namespace)
        return run([str(go_program("helm")), *argv, *options])

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "") -> Response:
        """Send one request and return the answer, whatever its status."""
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind or "application/json"}
        sent = None if body is None else json.dumps(body).encode()
        return request(method, f"{self._url}{path}", headers=headers, body=sent, tls=self._tls)

    def get(self, path: str) -> Any:  # noqa: ANN401 (whatever is there)
        return self.call("GET", path).expect(200).json()

    def create_namespace(self, name: str) -> None:
        """Create a namespace that admits only pods of the Pod Security Standard "restricted".

        Its service account `default` is there, which a controller would create.
        """
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"metadata": {"name": name, "labels": labels}}
        self.call("POST", "/api/v1/namespaces", body).expect(201)
        account = {"metadata": {"name": "default"}}
        self.call("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account).expect(201)


@contextmanager
def api_server(folder: Path) -> Iterator[Cluster]:
    """Run etcd and an API server with its default admission plugins and RBAC."""
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    store, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [
        *("etcd", f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
        *(f"--listen-client-urls={store}", f"--advertise-client-urls={store}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
        f"--initial-cluster=default={peer}",
    ]
    (folder / "tokens.csv").write_text(f"{_TOKEN},admin,admin,system:masters\n")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    service_accounts = folder / "service-accounts.pem"
    service_accounts.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    server = [
        *(str(go_tool("kube-apiserver")), f"--etcd-servers={store}", f"--cert-dir={folder / 'certificates'}"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}", "--service-cluster-ip-range=10.0.0.0/24"),
        *("--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}"),
        *(
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={service_accounts}",
        ),
        f"--service-account-signing-key-file={service_accounts}",
    ]
    url, certificate = f"https://127.0.0.1:{port}", folder / "certificates" / "apiserver.crt"

    def ready() -> bool:
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        try:
            trust = ssl.create_default_context(cafile=certificate)
            return request("GET", f"{url}/readyz", headers=headers, tls=trust).status == 200
        except OSError:
            return False

    with (
        Process(etcd, folder / "etcd.log", ready=lambda: listening(etcd_port)),
        Process(server, folder / "kube-apiserver.log", ready=ready, timeout_s=_START_S),
    ):
        yield Cluster(url, folder, certificate)
