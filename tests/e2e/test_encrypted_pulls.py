"""Encrypted pulls by the clients that nodes run: only the node's key opens the layers, and the image runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support import images
from tests.support.clients import Ctr, Docker
from tests.support.crictl import Crictl
from tests.support.crisper import CrisperServer, Customer, Node, Operator, Organization, PullToken
from tests.support.dockerd import Containerd
from tests.support.encrypted import KeyPair
from tests.support.images import Image
from tests.support.processes import Result, run
from tests.support.upstream import Upstream

MIB = 1 << 20
IMAGES = (images.runnable(), images.zstd_only(), images.uncompressed(), images.docker_schema2())

each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name.rpartition("/")[2])


@dataclass(frozen=True)
class Site:
    """A node with an encryption key, and a server with images for it."""

    operator: Operator
    organization: Organization
    customer: Customer
    upstream: Upstream
    keys: KeyPair
    key_file: Path
    node: Node
    groups: dict[str, str]

    def mint(self, image: Image, node: Node | None = None) -> PullToken:
        if image.name not in self.groups:
            self.upstream.push(image)
            access = {"username": self.upstream.username, "password": self.upstream.password}
            self.groups[image.name] = self.customer.import_image(self.upstream.reference(image), **access)
        return self.operator.mint(
            self.organization, self.groups[image.name], node or self.node, encryption="required"
        )


@pytest.fixture(scope="module")
def site(
    operator: Operator,
    organization: Organization,
    customer: Customer,
    upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    keys, folder = KeyPair.p256(), tmp_path_factory.mktemp("node-keys")
    (folder / "node.pem").write_bytes(keys.private)
    node = operator.create_node(encryption_key=keys.public, runtime="containerd")
    return Site(operator, organization, customer, upstream, keys, folder / "node.pem", node, {})


@pytest.fixture(scope="module", params=[None, MIB], ids=["1.6", "2.3"])
def ctr(request: pytest.FixtureRequest, workdir: Path, site: Site) -> Iterator[Ctr]:
    folder = workdir / f"encrypted-{request.param}"
    with Containerd(folder, chunk_bytes=request.param, keys=site.key_file.parent) as daemon:
        yield Ctr(daemon)


@each_image
def test_containerd_pulls_and_runs(site: Site, ctr: Ctr, image: Image) -> None:
    token = site.mint(image)
    ctr.pull(token.reference, token.username, token.password(site.node)).check()
    assert ctr.digest(token.reference) == token.digest
    assert images.GREETING in ctr.run(token.reference).check().output


def test_containerd_without_the_key_refuses_with_the_cause(site: Site, ctr: Ctr) -> None:
    other = site.operator.create_node(encryption_key=KeyPair.p256().public, runtime="containerd")
    token = site.mint(images.random_layers(), other)
    refused = ctr.pull(token.reference, token.username, token.password(other))
    assert not refused.ok
    assert "its key was wrapped for" in refused.output


@pytest.mark.full
@pytest.mark.parametrize("chunk_bytes", [None, MIB], ids=["1.6", "2.3"])
def test_kubernetes_pulls_and_runs(
    site: Site, chunk_bytes: int | None, workdir: Path, own_folder: Path
) -> None:
    """By CRI, with the token as the credential of the pull request, as a kubelet sends it."""
    pause = images.build("acme/pause", images.runnable().layers, cmd=["sleep 1000"])
    folder = workdir / f"cri-{chunk_bytes}"
    with Upstream.anonymous(own_folder / "registry") as registry:
        registry.push(pause)
        daemon = Containerd(
            folder, chunk_bytes=chunk_bytes, keys=site.key_file.parent, pause=registry.reference(pause)
        )
        with daemon:
            cri = Crictl(daemon, own_folder)
            for image in IMAGES:
                token = site.mint(image)
                cri.pull(token.reference, token.username, token.password(site.node)).check()
                assert images.GREETING in cri.run(token.reference)
            other = site.operator.create_node(encryption_key=KeyPair.p256().public, runtime="containerd")
            token = site.mint(images.random_layers(), other)
            refused = cri.pull(token.reference, token.username, token.password(other))
            assert not refused.ok
            assert "its key was wrapped for" in refused.output


@pytest.fixture
def containers() -> Iterator[Path]:
    """A folder with a short path, as Podman wants it."""
    with TemporaryDirectory(prefix="ctrs-", dir="/tmp") as folder:
        yield Path(folder)


@each_image
def test_skopeo_decrypts_into_containers_storage_and_podman_runs(
    site: Site, containers: Path, image: Image
) -> None:
    token = site.mint(image)
    storage = f"[vfs@{containers / 'root'}+{containers / 'run'}]"
    copied = run(
        [
            *("skopeo", "copy", "--src-tls-verify=false", f"--decryption-key={site.key_file}"),
            f"--src-creds={token.username}:{token.password(site.node)}",
            f"docker://{token.reference}",
            f"containers-storage:{storage}crisper.test/image:latest",
        ],
        timeout_s=100,
    )
    copied.check()
    assert images.GREETING in podman_run(containers, "crisper.test/image:latest").check().output


def podman_run(folder: Path, name: str) -> Result:
    options = (
        *(f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", f"--tmpdir={folder / 'tmp'}"),
        *("--storage-driver=vfs", "--events-backend=none", "--cgroup-manager=cgroupfs"),
    )
    isolated = (
        "--network=none",
        "--log-driver=k8s-file",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=1024:1024",
    )
    return run(["podman", *options, "run", "--rm", *isolated, name], timeout_s=100)


def test_docker_gets_a_clear_answer(site: Site, docker: Docker) -> None:
    token = site.mint(images.runnable())
    refused = docker.pull(token.reference, token.username, token.password(site.node))
    assert not refused.ok
    assert "Docker cannot decrypt them" in refused.output
    assert "invalid tar header" not in refused.output


def test_a_flipped_byte_in_storage_never_becomes_runnable(
    crisper: CrisperServer, site: Site, ctr: Ctr, own_folder: Path
) -> None:
    image = images.build("acme/flipped", [images.Layer.raw(own_folder.name.encode() * MIB)])
    token = site.mint(image)
    layer = json.loads(image.manifest)["layers"][0]
    stored = [
        path
        for path in (crisper.data_dir / "blobs" / "objects").glob("*/*")
        if path.stat().st_size == layer["size"]
    ]
    for path in stored:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
    pulled = ctr.pull(token.reference, token.username, token.password(site.node))
    assert stored
    assert not pulled.ok
