"""`crisper node proxy` as a process of its own, and what a client on the node asks of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.crisper import CRISPER, Node, PullToken
from tests.support.http import Response, basic, request
from tests.support.processes import Process, free_port, listening


class NodeProxy(Process):
    """A proxy, with its cache, its secret and its log in a folder.

    Args:
        options: Which registry, as which node.
        env: Secret of the node, if it has one.
        port: Its port; a free one by default.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.secret_file, self.cache = folder / "secret", folder / "cache"
        argv = [str(CRISPER), "node", "proxy", f"--listen={self.host}", f"--cache={self.cache}"]
        argv += [f"--secret={self.secret_file}", *options]
        super().__init__(argv, folder / "proxy.log", env=env, ready=lambda: listening(self.port))

    @classmethod
    def with_secret(
        cls,
        folder: Path,
        registry: str,
        node: Node,
        key: bytes,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
    ) -> Self:
        """Start a proxy for a node that is bound by a secret, and has this private key."""
        keys = folder / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / "node.pem").write_bytes(key)
        own = [f"--registry={registry}", f"--node-id={node.node_id}", f"--keys={keys}"]
        return cls(folder, [*own, *options], env={"CRISPER_NODE_SECRET": node.secret}, port=port)

    @property
    def secret(self) -> str:
        return self.secret_file.read_text().strip()

    def password(self, token: PullToken) -> str:
        return f"{token.token}~{self.secret}"

    def reference(self, token: PullToken) -> str:
        """Return what to give a client instead of the token's reference."""
        return f"{self.host}/{token.reference.partition('/')[2]}"

    def get(
        self, path: str, token: PullToken, *, method: str = "GET", timeout_s: float = 100, **headers: str
    ) -> Response:
        """Send a request below the token's repository."""
        repository = token.reference.partition("/")[2].rpartition(":")[0]
        headers.setdefault("Authorization", basic(token.username, self.password(token)))
        url = f"http://{self.host}/v2/{repository}/{path}"
        return request(method, url, headers=headers, timeout_s=timeout_s)

    def pull(self, token: PullToken) -> tuple[str, dict[str, Any], dict[str, bytes]]:
        """Pull the image of a tag: digest of its document, the manifest, and config and layers by digest."""
        root = self.get(f"manifests/{token.reference.rpartition(':')[2]}", token).expect(200)
        digest = str(root.headers["Docker-Content-Digest"])
        assert digest == "sha256:" + hashlib.sha256(root.body).hexdigest()
        manifest = json.loads(root.body)
        if "manifests" in manifest:
            first = manifest["manifests"][0]["digest"]
            manifest = self.get(f"manifests/{first}", token).expect(200).json()
        wanted = [manifest["config"], *manifest["layers"]]
        blobs = {
            each["digest"]: self.get(f"blobs/{each['digest']}", token).expect(200).body for each in wanted
        }
        for name, blob in blobs.items():
            assert name == "sha256:" + hashlib.sha256(blob).hexdigest()
        return digest, manifest, blobs
