"""After imports and pulls, good and failed, no file contains image content or a secret."""

from pathlib import Path

from tests.support import images
from tests.support.clients import Skopeo
from tests.support.crisper import CrisperServer, Customer
from tests.support.images import Image
from tests.support.traces import secrets_found, windows_found
from tests.support.upstream import Upstream

WRONG_PASSWORD = "not-the-password-of-any-customer-0815"


def test_the_search_finds_what_is_planted(own_folder: Path) -> None:
    layer = images.random_layers().layers[0].tar
    (own_folder / "window").write_bytes(b"x" * 1_001 + layer[70_007 : 70_007 + 64] + b"y" * 77)
    (own_folder / "less").write_bytes(b"x" * 1_001 + layer[70_007 : 70_007 + 63] + b"y" * 77)
    (own_folder / "header").write_text(
        "Basic Y3VzdG9tZXI6bm90LXRoZS1wYXNzd29yZC1vZi1hbnktY3VzdG9tZXItMDgxNQ=="
    )
    (found,) = windows_found([own_folder], {"layer": layer})
    assert found.startswith(f"{own_folder / 'window'} holds layer ")
    assert secrets_found([own_folder], {"password": WRONG_PASSWORD}) == [
        f"{own_folder / 'header'} holds password"
    ]


def test_neither_content_nor_secrets_are_at_rest(
    own_folder: Path, upstream: Upstream, skopeo: Skopeo
) -> None:
    wanted = (images.runnable(), images.random_layers(2, 300_000))
    server = CrisperServer(
        own_folder / "crisper",
        insecure_registries=[upstream.host],
        env={"CRISPER_LOG_LEVEL": "debug"},
    )
    with server:
        secrets = _journey(server, upstream, skopeo, wanted)
        operator_key = server.operator_key

    at_rest = [server.data_dir, server.tmp_dir, server.log]
    layers = {
        f"layer {number} of {image.name} as {form}": content
        for image in wanted
        for number, layer in enumerate(image.layers)
        for form, content in (("tar", layer.tar), ("gzip", layer.gzipped))
    }
    assert windows_found(at_rest, layers) == []
    assert secrets_found(at_rest, secrets) == []
    assert secrets_found(at_rest, {"operator key": operator_key}) == [
        f"{server.data_dir / 'operator.key'} holds operator key"
    ]
    assert _readable_by_others(server.data_dir, "*key*") == []


def _journey(
    server: CrisperServer, upstream: Upstream, skopeo: Skopeo, wanted: tuple[Image, ...]
) -> dict[str, str]:
    """Import and pull, rightly and wrongly, and return every secret that took part."""
    operator = server.operator
    organization = operator.create_organization()
    customer = server.customer(organization)
    node, stranger = operator.create_node(), operator.create_node()
    secrets = {
        "upstream's password": str(upstream.password),
        "wrong password": WRONG_PASSWORD,
        "organization's key": organization.api_key,
        "node's secret": node.secret,
        "stranger's secret": stranger.secret,
    }
    for image in wanted:
        upstream.push(image, tag="at-rest")
        reference = upstream.reference(image, "at-rest")
        _fail_to_import(customer, reference, upstream)
        group = customer.import_image(reference, username=upstream.username, password=upstream.password)
        token = operator.mint(organization, group, node)
        secrets[f"token for {image.name}"] = token.token
        secrets[f"signature of the token for {image.name}"] = token.token.rsplit(".", 1)[-1]
        assert not skopeo.pull(token.reference, stranger.node_id, token.password(stranger)).ok
        skopeo.pull(token.reference, token.username, token.password(node)).check()
        operator.complete(token)
        assert not skopeo.pull(token.reference, token.username, token.password(node)).ok
    return secrets


def _fail_to_import(customer: Customer, reference: str, upstream: Upstream) -> None:
    """Import with a wrong password, and a tag that is not there, and check the reasons."""
    for image, password, reason in (
        (reference, WRONG_PASSWORD, "failed to authenticate"),
        (f"{reference}-not", upstream.password, "failed to pull"),
    ):
        group = customer.create_group(image, username=upstream.username, password=password)
        state = customer.wait_settled(group)["current_state"]
        assert state["status"] == "failed"
        assert reason in state["description"].lower()


def _readable_by_others(folder: Path, pattern: str) -> list[str]:
    files = [path for path in folder.rglob(pattern) if path.is_file()]
    return [f"{path} {path.stat().st_mode:o}" for path in files if path.stat().st_mode & 0o077]
