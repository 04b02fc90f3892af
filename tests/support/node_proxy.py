"""`crisper node proxy` as a process of its own, and what a client on the node asks of it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.support.crisper import CRISPER, Node, PullToken
from tests.support.http import Response, basic, request
from tests.support.processes import Process, free_port, listening


class NodeProxy(Process):
    """A proxy for a node that is bound by a secret.

    Args:
        folder: For its cache, its secret, its log, and the node's private key.
        registry: URL at which it reaches the registry.
        port: Its port; a free one by default.
        cache_gb: Limit of its cache.
    """

    def __init__(
        self,
        folder: Path,
        registry: str,
        node: Node,
        key: bytes,
        *,
        port: int | None = None,
        cache_gb: int = 20,
    ) -> None:
        self.folder, self.node, self.port = folder, node, port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.secret_file, self.cache, keys = folder / "secret", folder / "cache", folder / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / "node.pem").write_bytes(key)
        argv = [str(CRISPER), "node", "proxy", f"--listen={self.host}", f"--cache={self.cache}"]
        argv += [f"--secret={self.secret_file}", f"--registry={registry}", f"--node-id={node.node_id}"]
        argv += [f"--keys={keys}", f"--cache-size={cache_gb}"]
        super().__init__(
            argv,
            folder / "proxy.log",
            env={"CRISPER_NODE_SECRET": node.secret},
            ready=lambda: listening(self.port),
        )

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
