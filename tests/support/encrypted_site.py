"""A TLS server with an image, and machines with containerd that are enrolled there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import images
from tests.support.certificates import SERVER, TestCa
from tests.support.clients import Ctr
from tests.support.crisper import CRISPER, CrisperServer, Node, Organization, PullToken, unique
from tests.support.dockerd import Containerd
from tests.support.edge import EdgeCache, metric
from tests.support.http import request
from tests.support.processes import run
from tests.support.upstream import Upstream

MIB = 1 << 20
IMAGE = images.build("acme/fleet", images.runnable().layers + images.random_layers(3, 8 * MIB).layers)
SIZE = sum(len(layer.gzipped) for layer in IMAGE.layers)


@dataclass(frozen=True)
class EncryptedSite:
    """The server, and the image's group."""

    server: CrisperServer
    organization: Organization
    group: str

    def machine(
        self, stack: ExitStack, folder: Path, edge: str | None, chunk_bytes: int | None
    ) -> tuple[Ctr, Node]:
        """Enroll a machine, and start its containerd, with its files in `folder`."""
        root = folder / "root"
        node_id, secret = self.server.operator.create_certified_node(unique("edge-node"))
        assert self.server.tls is not None
        argv = [str(CRISPER), "node", "enroll", self.server.url, node_id, f"--ca={self.server.tls.ca}"]
        argv += [f"--root={root}", "--runtime=containerd", *([f"--edge={edge}"] if edge else [])]
        run(argv, env={"CRISPER_ENROLMENT_SECRET": secret}).check()
        keys = root / "etc/containerd/ocicrypt/keys"
        daemon = stack.enter_context(Containerd(folder / "daemon", chunk_bytes=chunk_bytes, keys=keys))
        ctr = Ctr(daemon)
        ctr.transport = ["--hosts-dir", str(root / "etc/containerd/certs.d")]
        return ctr, Node(node_id, "")

    def mint(self, node: Node) -> PullToken:
        return self.server.operator.mint(self.organization, self.group, node, encryption="required")

    def edge(self, serves: Sequence[str] = ()) -> tuple[EdgeCache, str]:
        """Create an edge. Returns it, not started, and its key."""
        cache = EdgeCache(self.server)
        cache.registered = unique("edge")
        body = {"name": cache.registered, "url": cache.url, "serves": list(serves)}
        return cache, self.server.operator.call("POST", "/edges", body).expect(201).json()["key"]

    def redeem(self, token: PullToken, authorization: str) -> int:
        """Show a password to the server, as a thief would. Returns the status."""
        repository = token.reference.partition("/")[2].rpartition(":")[0]
        url = f"{self.server.url}/token?service=crisper&scope=repository:{repository}:pull"
        return request("GET", url, headers={"Authorization": authorization}, tls=self.server.trust).status

    @property
    def sent_bytes(self) -> float:
        """Bytes of blobs that the server has sent, to nodes and edges."""
        text = request("GET", f"{self.server.url}/metrics", tls=self.server.trust).body.decode()
        return metric(text, "crisper_blob_bytes_delivered_total")


@contextmanager
def encrypted_site(folder: Path) -> Iterator[EncryptedSite]:
    """Run a server that has imported `IMAGE`."""
    tls = TestCa.create(folder / "servers").issue("server", hosts=["127.0.0.1", "localhost"], purposes=SERVER)
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(folder / "upstream"))
        upstream.push(IMAGE)
        server = CrisperServer(folder / "server", insecure_registries=[upstream.host], tls=tls)
        stack.enter_context(server)
        organization = server.operator.create_organization()
        group = server.customer(organization).import_image(upstream.reference(IMAGE), **upstream.login)
        yield EncryptedSite(server, organization, group)
