"""Key services on loopback: OpenBao, a real server of Vault's API, and moto's of AWS KMS."""

import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.support.processes import Process, free_port, listening

BAO = Path(sys.executable).with_name("bao")
MOTO = Path(sys.executable).with_name("moto_server")
KMS_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester", "AWS_REGION": "us-east-1"}
)


class Bao:
    """A Vault-compatible server with the Transit engine mounted.

    Attributes:
        token: Of a policy that allows what docs/keys.md lists, and no more.
    """

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.root_token = secrets.token_hex(16)
        self.token = ""

    def url(self, prefix: str = "crisper") -> str:
        return f"vault://{self.host}/transit?scheme=http&prefix={prefix}"

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"X-Vault-Token": self.root_token}
        asked = urllib.request.Request(f"http://{self.host}/v1/{path}", data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
            return dict(json.loads(answer.read() or b"{}"))

    def prepare(self) -> None:
        self.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.call("PUT", "sys/policies/acl/crisper", {"policy": POLICY})
        made = self.call("POST", "auth/token/create", {"policies": ["crisper"], "no_default_policy": True})
        auth = made["auth"]
        assert isinstance(auth, dict)
        self.token = str(auth["client_token"])


POLICY = """
path "transit/keys" { capabilities = ["list"] }
path "transit/keys/*" { capabilities = ["create", "read", "update", "delete"] }
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/rewrap/*" { capabilities = ["update"] }
"""


@contextmanager
def openbao(folder: Path) -> Iterator[Bao]:
    """Run OpenBao in memory."""
    port = free_port()
    bao = Bao(port)
    argv = [
        *(str(BAO), "server", "-dev", "-dev-no-store-token"),
        f"-dev-root-token-id={bao.root_token}",
        f"-dev-listen-address=127.0.0.1:{port}",
    ]
    env = {"HOME": str(folder)}
    with Process(argv, folder / "openbao.log", env=env, ready=lambda: listening(port)):
        bao.prepare()
        yield bao


@contextmanager
def moto_kms(folder: Path) -> Iterator[str]:
    """Run moto's server; yield its address."""
    port = free_port()
    argv = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    with Process(argv, folder / "moto.log", ready=lambda: listening(port)):
        yield f"http://127.0.0.1:{port}"
