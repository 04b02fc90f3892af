"""containerd with a neighbour as mirror for layers, and the registry for tags and manifests."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import images
from tests.support.encrypted_site import IMAGE, MIB, SIZE, EncryptedSite
from tests.support.peer import Peer
from tests.support.processes import free_port

HOSTS = """\
[host."{url}"]
  capabilities = ["pull"]
"""
versions = pytest.mark.parametrize(
    "chunk_bytes", [None, pytest.param(MIB, marks=pytest.mark.full)], ids=["1.6", "2.3"]
)


@versions
def test_a_machine_gets_layers_from_its_neighbours_store(
    encrypted: EncryptedSite, own_folder: Path, chunk_bytes: int | None
) -> None:
    dead = f"http://localhost:{free_port()}"
    with ExitStack() as stack:
        first, first_node = encrypted.machine(stack, own_folder / "first", None, chunk_bytes)
        store = own_folder / "first/daemon/containerd/root"
        peer = stack.enter_context(Peer(store))
        mirrors = [dead, peer.url]
        second, second_node = encrypted.machine(stack, own_folder / "second", None, chunk_bytes)
        (hosts,) = (own_folder / "second/root/etc/containerd/certs.d").glob("*/hosts.toml")
        own = hosts.read_text().removesuffix("[host]\n")
        hosts.write_text(own + "".join(HOSTS.format(url=url) for url in mirrors))

        token = encrypted.mint(first_node)
        first.pull(token.reference, token.username, token.token).check()
        before = encrypted.sent_bytes
        token = encrypted.mint(second_node)
        second.pull(token.reference, token.username, token.token).check()

        assert second.digest(token.reference) == token.digest
        assert images.GREETING in second.run(token.reference, "cat", "/etc/greeting").check().output
        assert peer.sent_bytes >= SIZE
        assert encrypted.sent_bytes - before < 0.01 * SIZE
        assert {namespace for _, namespace, _, _ in peer.requests} == {encrypted.server.host}
        assert not any("Authorization" in headers for *_, headers in peer.requests)


@pytest.mark.full
def test_a_neighbour_without_the_image_costs_no_pull(encrypted: EncryptedSite, own_folder: Path) -> None:
    with ExitStack() as stack:
        empty = own_folder / "empty"
        empty.mkdir()
        peer = stack.enter_context(Peer(empty))
        ctr, node = encrypted.machine(stack, own_folder / "machine", peer.url, None)
        token = encrypted.mint(node)
        ctr.pull(token.reference, token.username, token.token).check()
        assert ctr.digest(token.reference) == token.digest
        assert peer.requests
        assert peer.sent_bytes == 0


@pytest.mark.full
def test_a_neighbours_layers_are_useless_to_a_machine_without_a_token(
    encrypted: EncryptedSite, own_folder: Path
) -> None:
    with ExitStack() as stack:
        first, node = encrypted.machine(stack, own_folder / "first", None, None)
        token = encrypted.mint(node)
        first.pull(token.reference, token.username, token.token).check()
        stored = own_folder / "first/daemon/containerd/root/io.containerd.content.v1.content/blobs/sha256"
        layers = [path.read_bytes() for path in stored.iterdir() if path.stat().st_size > MIB]
        plain = [layer.gzipped for layer in IMAGE.layers if len(layer.gzipped) > MIB]
        windows = [blob[at : at + 64] for blob in plain for at in range(0, len(blob) - 64, MIB)]
        assert layers
        assert not any(window in layer for window in windows for layer in layers)
