"""Ciphertext that nginx or an object store sends instead of the server, and what stays with the server."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

import pytest

from tests.integration.server.conftest import open_shop
from tests.integration.server.test_encrypted_delivery import Keyed
from tests.support import images
from tests.support.certificates import SERVER, TestCa
from tests.support.clients import PULL_TIMEOUT_S
from tests.support.crisper import CrisperServer
from tests.support.encrypted import KeyPair
from tests.support.http import Response, request
from tests.support.object_stores import S3_ENVIRONMENT, S3Server, s3_server
from tests.support.processes import run
from tests.support.proxies import nginx
from tests.support.recording_cache import RecordingCache
from tests.support.upstream import Upstream

MIB = 1 << 20


def keyed(server: CrisperServer, upstream: Upstream) -> Keyed:
    keys = KeyPair.p256()
    shop = open_shop(server, upstream, images.random_layers())
    node = server.operator.create_node(encryption_key=keys.public, runtime="containerd")
    return Keyed(server, shop.organization, node, shop.group, shop.image, keys)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that nginx's own user can reach."""
    made = Path(mkdtemp(prefix="offload-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def accelerated(folder: Path, upstream: Upstream) -> Iterator[tuple[Keyed, str]]:
    """A server behind nginx, which may read the stored objects."""
    tls = TestCa.create(folder / "servers").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    (folder / "server").mkdir(mode=0o755)
    env = {
        "CRISPER_DELIVERY": "accel",
        "CRISPER_UNIX_SOCKET": str(folder / "proxy.sock"),
        "CRISPER_UNIX_SOCKET_GROUP": "www-data",
        "CRISPER_STORAGE_URL": f"file://{folder}/blobs?group=www-data",
    }
    with ExitStack() as stack:
        server = CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env, tls=tls)
        shop = keyed(stack.enter_context(server), upstream)
        shutil.copy(server.data_dir / "node-ca" / "certificate.pem", folder / "node-ca.crt")
        yield shop, stack.enter_context(nginx(folder, tls, blobs=folder / "blobs"))


def through(shop: Keyed, url: str, path: str, bearer: str, **headers: str) -> Response:
    sent = {"Authorization": f"Bearer {bearer}", **headers}
    return request("GET", f"{url}/v2/{shop.repository}/{path}", headers=sent, tls=shop.server.trust)


def test_nginx_sends_what_the_server_authorizes(accelerated: tuple[Keyed, str]) -> None:
    shop, url = accelerated
    token = shop.mint_encrypted()
    bearer = shop.bearer(token)
    manifest = json.loads(through(shop, url, "manifests/latest", bearer).expect(200).body)
    plain = [shop.image.blobs[each["digest"]] for each in json.loads(shop.image.manifest)["layers"]]
    total = 0
    for layer, expected in zip(manifest["layers"], plain, strict=True):
        whole = through(shop, url, f"blobs/{layer['digest']}", bearer).expect(200)
        assert shop.keys.open(layer, whole.body) == expected
        assert "X-Accel-Redirect" not in whole.headers
        part = through(shop, url, f"blobs/{layer['digest']}", bearer, Range="bytes=100-299").expect(206)
        assert part.body == whole.body[100:300]
        total += len(whole.body) + 200
    session = shop.server.operator.token(token)["session"]
    assert session["bytes_delivered"] == total
    config = manifest["config"]["digest"]
    assert through(shop, url, f"blobs/{config}", bearer).expect(200).body == shop.image.blobs[config]
    through(shop, url, f"blobs/{'sha256:' + '0' * 64}", bearer).expect(404)


def test_an_edge_fetches_through_nginx(accelerated: tuple[Keyed, str]) -> None:
    shop, url = accelerated
    made = shop.server.operator.call("POST", "/edges", {"name": "accel", "url": "https://edge.example.net"})
    headers = {"Authorization": f"Bearer {made.expect(201).json()['key']}"}
    layer = shop.manifest(shop.bearer(shop.mint_encrypted()))["layers"][0]
    path = f"{url}/edge/blobs/{layer['digest']}"
    whole = request("GET", path, headers=headers, tls=shop.server.trust).expect(200)
    assert shop.keys.open(layer, whole.body) in shop.image.blobs.values()
    assert "X-Accel-Redirect" not in whole.headers
    assert whole.headers["ETag"] == f'"{layer["digest"]}"'
    part = request("GET", path, headers={**headers, "Range": "bytes=7-99"}, tls=shop.server.trust).expect(206)
    assert part.body == whole.body[7:100]
    request("GET", path, tls=shop.server.trust).expect(401)


def test_nginx_serves_no_object_by_itself(accelerated: tuple[Keyed, str], folder: Path) -> None:
    shop, url = accelerated
    stored = next((folder / "blobs" / "objects").glob("*/*"))
    path = f"/_blobs/{stored.relative_to(folder / 'blobs')}"
    request("GET", f"{url}{path}", tls=shop.server.trust).expect(404)


def test_a_client_without_nginx_between_gets_the_body(accelerated: tuple[Keyed, str]) -> None:
    shop, _ = accelerated
    bearer = shop.bearer(shop.mint_encrypted())
    layer = shop.manifest(bearer)["layers"][0]
    answer = shop.get(f"blobs/{layer['digest']}", bearer).expect(200)
    assert len(answer.body) == layer["size"]
    assert "X-Accel-Redirect" not in answer.headers


def test_a_session_over_its_budget_is_refused_through_nginx(accelerated: tuple[Keyed, str]) -> None:
    shop, url = accelerated
    bearer = shop.bearer(shop.mint_encrypted())
    digest = shop.manifest(bearer)["layers"][0]["digest"]
    statuses = [through(shop, url, f"blobs/{digest}", bearer).status for _ in range(40)]
    assert statuses[0] == 200
    assert statuses[-1] == 403
    spent = statuses.count(200) * 3 * MIB
    assert spent <= 3 * 24 * MIB + 16 * MIB + 3 * MIB


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_the_object_store_sends_by_presigned_urls(
    s3: S3Server, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("redirected") / "server"
    env = {**S3_ENVIRONMENT, "CRISPER_STORAGE_URL": s3.url("crisper"), "CRISPER_DELIVERY": "redirect"}
    with CrisperServer(folder, insecure_registries=[upstream.host], env=env) as server:
        shop = keyed(server, upstream)
        token = shop.mint_encrypted()
        bearer = shop.bearer(token)
        manifest = shop.manifest(bearer)
        layer = manifest["layers"][0]
        answer = shop.get(f"blobs/{layer['digest']}", bearer).expect(307)
        assert answer.headers["Cache-Control"] == "no-store"
        url = answer.headers["Location"]
        assert urlsplit(url).port == s3.port
        assert shop.keys.open(layer, request("GET", url).expect(200).body) in shop.image.blobs.values()
        request("GET", url, headers={"Range": "bytes=5-9"}).expect(206)
        request("GET", url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).expect(403)
        assert server.operator.token(token)["session"]["bytes_delivered"] == layer["size"]
        assert "X-Amz-Signature" not in server.log.read_text()
        # Plaintext sessions, manifests and configs never leave by another way.
        plain = shop.bearer(server.operator.mint(shop.organization, shop.group, shop.node, encryption="none"))
        for blob in (*json.loads(shop.image.manifest)["layers"], manifest["config"]):
            shop.get(f"blobs/{blob['digest']}", plain).expect(200)
        shop.get(f"blobs/{manifest['config']['digest']}", bearer).expect(200)


def test_go_clients_send_the_cache_no_token(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`localhost` is another host than `127.0.0.1`, so that the client takes it for another server."""
    folder = tmp_path_factory.mktemp("cached")
    with RecordingCache() as cache:
        env = {"CRISPER_DELIVERY": "redirect", "CRISPER_BLOB_REDIRECT": cache.url}
        with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
            shop = keyed(server, upstream)
            cache.serve(server.data_dir / "blobs" / "objects")
            token = shop.mint_encrypted()
            copied = run(
                [
                    *("skopeo", "copy", "--src-tls-verify=false", f"docker://{token.reference}"),
                    f"--src-creds={token.username}:{token.password(shop.node)}",
                    f"dir:{folder / 'copy'}",
                ],
                timeout_s=PULL_TIMEOUT_S,
            )
            copied.check()
    assert len(cache.requests) >= len(json.loads(shop.image.manifest)["layers"])
    assert not any(name.lower() == "authorization" for headers in cache.requests for name in headers)
