"""A server that speaks TLS, with one imported image, and nodes that are bound by certificate."""

from pathlib import Path
from shutil import copy

from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import CertificateFiles, TestCa, key_pem, new_key, signing_request
from tests.support.crisper import CRISPER, CrisperServer, Node, PullToken
from tests.support.http import Response, basic, request
from tests.support.images import Image
from tests.support.processes import run
from tests.support.upstream import Upstream


class Certified:
    """What nodes, good and bad, say to a TLS server.

    Args:
        server: Running; its certificate is what callers trust.
        folder: For certificates and keys.
        operators_ca: Given to the server as CRISPER_NODE_CA.
        upstream: Holds `image`, which is imported here.
    """

    def __init__(
        self, server: CrisperServer, folder: Path, operators_ca: TestCa, upstream: Upstream, image: Image
    ) -> None:
        assert server.tls is not None
        self.server = server
        self.tls: CertificateFiles = server.tls
        self.url = server.url
        self.folder = folder
        self.operators_ca = operators_ca
        self.organization = server.operator.create_organization()
        self.group = server.customer(self.organization).import_image(
            upstream.reference(image), username=upstream.username, password=upstream.password
        )
        self.repository = f"{self.organization.name}/default/{self.group}"

    def send(
        self, method: str, path: str, shown: CertificateFiles | None = None, **changes: object
    ) -> Response:
        context = self.tls.trusting(shown)
        return request(method, f"{self.url}{path}", tls=context, **changes)  # type: ignore[arg-type]

    def ask(
        self, node_id: str, *, secret: str = "", shown: CertificateFiles | None = None, csr: str = ""
    ) -> Response:
        """Ask for a certificate, with an enrolment secret or a certificate."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        body = {"csr": csr or signing_request(new_key())}
        return self.send("POST", f"/api/v1/nodes/{node_id}/certificate", shown, headers=headers, body=body)

    def files(self, name: str, certificate: str, key: ec.EllipticCurvePrivateKey) -> CertificateFiles:
        made = CertificateFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key", self.tls.ca)
        made.certificate.write_text(certificate)
        made.key.write_bytes(key_pem(key))
        return made

    def enrolled(self, **changes: object) -> tuple[Node, CertificateFiles]:
        node_id, secret = self.server.operator.create_certified_node(**changes)  # type: ignore[arg-type]
        key = new_key()
        answer = self.ask(node_id, secret=secret, csr=signing_request(key)).expect(200).json()
        return Node(node_id, ""), self.files(node_id, answer["certificate"], key)

    def enroll(self, root: Path, url: str) -> Node:
        """Enrol a machine whose file system is at `root` by `crisper node enroll`."""
        node_id, secret = self.server.operator.create_certified_node()
        argv = [str(CRISPER), "node", "enroll", url, node_id, "--ca", str(self.tls.ca), "--root", str(root)]
        run(argv, env={"CRISPER_ENROLMENT_SECRET": secret}).check()
        return Node(node_id, "")

    def prepare(self, root: Path, host: str, shown: CertificateFiles | None) -> None:
        """Set up a machine's clients by hand, as `crisper node enroll` does, with any certificate or none."""
        docker, containerd = root / "etc/docker/certs.d" / host, root / "etc/containerd/certs.d" / host
        docker.mkdir(parents=True)
        containerd.mkdir(parents=True)
        copy(self.tls.ca, docker / "ca.crt")
        hosts = f'server = "https://{host}"\n[host."https://{host}"]\n  ca = "{docker / "ca.crt"}"\n'
        if shown is not None:
            copy(shown.certificate, docker / "client.cert")
            copy(shown.key, docker / "client.key")
            hosts += f'  client = [["{docker / "client.cert"}", "{docker / "client.key"}"]]\n'
        (containerd / "hosts.toml").write_text(hosts)

    def mint(self, node: Node) -> PullToken:
        return self.server.operator.mint(self.organization, self.group, node)

    def exchange(
        self, token: PullToken, shown: CertificateFiles | None, *, username: str = "", **headers: str
    ) -> Response:
        scope = f"repository:{self.repository}:pull"
        headers["Authorization"] = basic(username or token.username, token.token)
        path = f"/token?service=crisper&scope={scope}"
        return self.send("GET", path, shown, headers=_named(headers))

    def manifest(self, bearer: str, shown: CertificateFiles | None, **headers: str) -> Response:
        headers["Authorization"] = f"Bearer {bearer}"
        path = f"/v2/{self.repository}/manifests/latest"
        return self.send("GET", path, shown, headers=_named(headers))

    def causes(self, **filters: str) -> list[str]:
        """Return the causes of the refusals that were recorded, oldest first."""
        return [event["cause"] for event in self.server.operator.events(**filters) if event["cause"]]


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
