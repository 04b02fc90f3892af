"""The server is killed, as a power cut would, and started again on the same data folder."""

from pathlib import Path

from tests.support import images
from tests.support.clients import Docker, Skopeo
from tests.support.crisper import CrisperServer, PullToken
from tests.support.images import MIB, digest_of
from tests.support.processes import wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

TAKEOVER_TIMEOUT_S = 60  # a dead worker's lease runs out within 30 s


def test_an_import_completes_after_a_kill_in_the_middle(
    own_folder: Path, upstream: Upstream, skopeo: Skopeo
) -> None:
    image = images.random_layers()
    with SlowLink(upstream.port, bytes_per_s=4 * MIB) as link:
        server = CrisperServer(own_folder / "crisper", insecure_registries=[link.host])
        with server:
            organization = server.operator.create_organization()
            node = server.operator.create_node()
            customer = server.customer(organization)
            group = customer.create_group(
                f"{link.host}/{image.name}:latest", username=upstream.username, password=upstream.password
            )
            wait_until(lambda: link.delivered_bytes > 5 * MIB, timeout_s=30, what="the import is under way")
            assert customer.status(group) == "pending"
            server.kill9()
            link.bytes_per_s = 1_000 * MIB

            server.start()
            state = customer.wait_settled(group, timeout_s=TAKEOVER_TIMEOUT_S)["current_state"]
            assert state["status"] == "stopped", state
            token = server.operator.mint(organization, group, node)
            assert token.digest == image.digest
            skopeo.pull(token.reference, token.username, token.password(node)).check()
            copied = {digest_of(path.read_bytes()) for path in skopeo.copied(token.reference).iterdir()}
            assert set(image.blobs) < copied


def test_a_token_works_exactly_once_across_kills(
    own_folder: Path, upstream: Upstream, docker: Docker
) -> None:
    server = CrisperServer(own_folder / "crisper", insecure_registries=[upstream.host])
    with server:
        operator = server.operator
        organization = operator.create_organization()
        node, stranger = operator.create_node(), operator.create_node()
        reference = upstream.reference(images.runnable())
        group = server.customer(organization).import_image(
            reference, username=upstream.username, password=upstream.password
        )
        token = operator.mint(organization, group, node)

        _restart(server)
        docker.pull(token.reference, token.username, token.password(node)).check()

        _restart(server)
        _assert_refused(docker, token, stranger.node_id, token.password(stranger))
        operator.complete(token)

        _restart(server)
        assert operator.token_state(token) == "done"
        _assert_refused(docker, token, token.username, token.password(node))


def _restart(server: CrisperServer) -> None:
    server.kill9()
    server.start()


def _assert_refused(docker: Docker, token: PullToken, username: str, password: str) -> None:
    result = docker.pull(token.reference, username, password)
    assert not result.ok
    assert docker.refusal.search(result.output), result.output
