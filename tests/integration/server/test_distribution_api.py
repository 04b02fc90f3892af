"""`/v2/` and `/token` of a real server, byte by byte."""

import hashlib
import json

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.http import basic, request
from tests.support.images import OCI_INDEX as INDEX
from tests.support.images import OCI_MANIFEST as MANIFEST
from tests.support.images import digest_of
from tests.support.upstream import Upstream


def layer_of(shop: Shop, bearer: str) -> tuple[str, int]:
    index = shop.get("manifests/latest", bearer).expect(200).json()
    amd64 = next(m for m in index["manifests"] if m["platform"]["architecture"] == "amd64")
    manifest = shop.get(f"manifests/{amd64['digest']}", bearer).expect(200).json()
    largest = max(manifest["layers"], key=lambda layer: layer["size"])
    return largest["digest"], largest["size"]


def test_without_a_bearer_every_address_answers_a_challenge(shop: Shop) -> None:
    for path in ("manifests/latest", "blobs/sha256:" + "0" * 64, "tags/list", "nothing/here"):
        refused = shop.get(path, None).expect(401)
        assert refused.json()["errors"][0]["code"] == "UNAUTHORIZED"
    challenge = shop.get("manifests/latest", None).headers["WWW-Authenticate"]
    assert challenge == (
        f'Bearer realm="{shop.server.url}/token",service="crisper",scope="repository:{shop.repository}:pull"'
    )


def test_every_answer_names_the_version_of_the_api(shop: Shop) -> None:
    bearer = shop.bearer()
    for path, shown, status in (
        ("manifests/latest", bearer, 200),
        ("manifests/latest", None, 401),
        ("manifests/other", bearer, 404),
        ("nothing/here", bearer, 404),
    ):
        answer = shop.get(path, shown).expect(status)
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    for method, path, status in (("GET", "/v2/", 401), ("POST", "/v2/a/b/c/blobs/uploads/", 405)):
        answer = request(method, f"{shop.server.url}{path}").expect(status)
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_v2_without_a_slash_redirects(shop: Shop) -> None:
    answer = request("GET", f"{shop.server.url}/v2")
    assert (answer.status, answer.headers["Location"]) == (308, "/v2/")


def test_basic_gets_the_challenge_without_an_error(shop: Shop) -> None:
    answer = request("GET", f"{shop.server.url}/v2/", headers={"Authorization": basic("pc-1", "x")})
    assert answer.status == 401
    assert "error" not in str(answer.headers["WWW-Authenticate"])


def test_a_bearer_that_is_nobodys_is_told_that_it_is_invalid(shop: Shop) -> None:
    refused = shop.get("manifests/latest", "nonsense").expect(401)
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def test_tag_and_digest_name_one_document_and_head_has_no_body(shop: Shop) -> None:
    bearer = shop.bearer()
    by_tag = shop.get("manifests/v1", bearer).expect(200)
    by_digest = shop.get(f"manifests/{shop.image.digest}", bearer).expect(200)
    assert by_tag.body == by_digest.body
    assert f"sha256:{hashlib.sha256(by_tag.body).hexdigest()}" == shop.image.digest
    assert by_tag.headers["Content-Type"] == INDEX
    assert by_tag.headers["Docker-Content-Digest"] == shop.image.digest
    head = shop.get("manifests/v1", bearer, method="HEAD").expect(200)
    assert head.body == b""
    for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag"):
        assert head.headers[name] == by_tag.headers[name]


@pytest.mark.parametrize(
    ("accepted", "served"),
    [
        ([], "index"),
        (["*/*"], "index"),
        (["application/*;q=0.1"], "index"),
        (["application/json", INDEX], "index"),
        ([MANIFEST, f"{INDEX}; q=0.5"], "index"),
        ([MANIFEST], "manifest"),
        ([f"{INDEX};q=0", "*/*"], "manifest"),
        (["text/html"], None),
    ],
)
def test_a_tag_names_what_the_client_takes(shop: Shop, accepted: list[str], served: str | None) -> None:
    answer = shop.accepting("manifests/latest", shop.bearer(), accepted)
    if served is None:
        assert answer.expect(404).json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
        return
    expected = shop.image if served == "index" else shop.image.children[0]
    assert digest_of(answer.expect(200).body) == expected.digest
    assert answer.headers["Content-Type"] == expected.media_type
    assert answer.headers["Docker-Content-Digest"] == expected.digest


def test_a_digest_names_one_document_whatever_the_client_takes(shop: Shop) -> None:
    path = f"manifests/{shop.image.digest}"
    shop.accepting(path, shop.bearer(), [MANIFEST]).expect(404)
    shop.accepting(path, shop.bearer(), [MANIFEST, INDEX]).expect(200)


def test_documents_are_blobs_too(shop: Shop) -> None:
    answer = shop.get(f"blobs/{shop.image.digest}", shop.bearer()).expect(200)
    assert digest_of(answer.body) == shop.image.digest


def test_blobs_come_whole_and_in_every_kind_of_range(shop: Shop) -> None:
    bearer = shop.bearer()
    digest, size = layer_of(shop, bearer)
    whole = shop.get(f"blobs/{digest}", bearer).expect(200)
    assert f"sha256:{hashlib.sha256(whole.body).hexdigest()}" == digest
    assert (whole.headers["Content-Length"], whole.headers["Accept-Ranges"]) == (str(size), "bytes")
    for asked, expected in (
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-", slice(5, None)),
        ("bytes=100-299", slice(100, 300)),
        ("bytes=-7", slice(size - 7, None)),
        (f"bytes=10-{size + 99}", slice(10, None)),
    ):
        part = shop.get(f"blobs/{digest}", bearer, Range=asked).expect(206)
        start, end, _ = expected.indices(size)
        assert part.body == whole.body[expected]
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for ignored in ("bytes=0-1,x", "lines=1-2", "bytes=", "bytes=9-3"):
        assert shop.get(f"blobs/{digest}", bearer, Range=ignored).expect(200).body == whole.body
    for beyond in (f"bytes={size}-", "bytes=-0"):
        refused = shop.get(f"blobs/{digest}", bearer, Range=beyond).expect(416)
        assert refused.headers["Content-Range"] == f"bytes */{size}"
    head = shop.get(f"blobs/{digest}", bearer, method="HEAD").expect(200)
    assert (head.body, head.headers["Content-Length"]) == (b"", str(size))


def test_a_client_that_holds_the_content_is_told_so(shop: Shop) -> None:
    bearer = shop.bearer()
    digest, size = layer_of(shop, bearer)
    for path, etag in ((f"blobs/{digest}", digest), ("manifests/latest", shop.image.digest)):
        assert shop.get(path, bearer, If_None_Match=f'"{etag}"').expect(304).body == b""
        shop.get(path, bearer, If_None_Match='"other"').expect(200)
    stale = shop.get(f"blobs/{digest}", bearer, Range="bytes=0-3", If_Range='"other"').expect(200)
    assert len(stale.body) == size
    shop.get(f"blobs/{digest}", bearer, Range="bytes=0-3", If_Range=f'"{digest}"').expect(206)


def test_tags_are_listed_in_pages(shop: Shop) -> None:
    bearer = shop.bearer()
    assert shop.get("tags/list", bearer).expect(200).json() == {
        "name": shop.repository,
        "tags": ["latest", "v1"],
    }
    first = shop.get("tags/list?n=1", bearer).expect(200)
    assert first.json()["tags"] == ["latest"]
    assert first.headers["Link"] == f'</v2/{shop.repository}/tags/list?n=1&last=latest>; rel="next"'
    rest = shop.get("tags/list?n=1&last=latest", bearer).expect(200)
    assert (rest.json()["tags"], rest.headers["Link"]) == (["v1"], None)
    none = shop.get("tags/list?n=0", bearer).expect(200)
    assert (none.json()["tags"], none.headers["Link"]) == ([], None)
    assert shop.get("tags/list?last=v1", bearer).expect(200).json()["tags"] == []


NOWHERE = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("manifests/v2", "MANIFEST_UNKNOWN"),
        ("manifests/other", "MANIFEST_UNKNOWN"),
        (f"manifests/{NOWHERE}", "MANIFEST_UNKNOWN"),
        (f"blobs/{NOWHERE}", "BLOB_UNKNOWN"),
    ],
)
def test_what_is_not_of_the_image_is_unknown_and_recorded(shop: Shop, path: str, code: str) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    assert shop.get(path, bearer).expect(404).json()["errors"][0]["code"] == code
    assert shop.causes(token) == ["outside_scope"]


def test_what_another_image_holds_is_unknown_in_the_same_words(shop: Shop, upstream: Upstream) -> None:
    rival = open_shop(shop.server, upstream, images.random_layers())
    token = shop.mint()
    bearer = shop.bearer(token)
    for kind, digest in (("manifests", rival.image.digest), ("blobs", next(iter(rival.image.blobs)))):
        answers = [shop.get(f"{kind}/{each}", bearer).expect(404) for each in (digest, NOWHERE)]
        theirs, nobodys = (answer.json()["errors"][0] | {"detail": None} for answer in answers)
        assert theirs == nobodys
    assert shop.causes(token) == ["outside_scope"] * 4


def test_a_revoked_session_is_not_even_told_what_is_unknown(shop: Shop) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    shop.server.operator.revoke(token)
    for path in (f"manifests/{NOWHERE}", f"blobs/{NOWHERE}", f"referrers/{NOWHERE}", "tags/list"):
        shop.get(path, bearer).expect(401)
    assert shop.causes(token) == ["revoked"] * 4


def test_a_client_that_looks_for_signatures_raises_no_alarm(shop: Shop) -> None:
    token = shop.mint()
    tag = shop.image.digest.replace(":", "-") + ".sig"
    shop.get(f"manifests/{tag}", shop.bearer(token)).expect(404)
    assert shop.causes(token) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("manifests/sha256:baddigest", "DIGEST_INVALID"),
        (f"manifests/sha384:{'0' * 96}", "DIGEST_INVALID"),
        (f"manifests/sha256:{'A' * 64}", "DIGEST_INVALID"),
        ("blobs/x", "DIGEST_INVALID"),
        (f"blobs/sha512:{'0' * 64}", "DIGEST_INVALID"),
        ("tags/list?n=-1", "UNSUPPORTED"),
        ("tags/list?n=two", "UNSUPPORTED"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request(shop: Shop, path: str, code: str) -> None:
    assert shop.get(path, shop.bearer()).expect(400).json()["errors"][0]["code"] == code


@pytest.mark.parametrize("name", ["Org/default/web", "a//b", "-a/b", "a/b/..", "a/b%2F..", "a" * 256])
def test_a_name_outside_the_grammar_is_a_bad_request(shop: Shop, name: str) -> None:
    refused = shop.get("manifests/latest", shop.bearer(), repository=name).expect(400)
    assert refused.json()["errors"][0]["code"] == "NAME_INVALID"


@pytest.mark.parametrize(
    "path", ["manifests/", "manifests/a/b", "blobs/uploads/", "tags/", "tags/list/", "manifests", "_catalog"]
)
def test_addresses_outside_the_specification_are_not_there(shop: Shop, path: str) -> None:
    shop.get(path, shop.bearer()).expect(404)


def test_another_repository_is_denied_whether_it_exists_or_not(shop: Shop) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    for repository in ("rival/default/web", "default/default/nothing"):
        shop.get("manifests/latest", bearer, repository=repository).expect(403)
    assert shop.causes(token) == ["outside_scope"] * 2


def test_the_other_platform_of_an_index_was_not_imported(shop: Shop) -> None:
    bearer = shop.bearer()
    index = shop.get("manifests/latest", bearer).json()
    other = next(m for m in index["manifests"] if m["platform"]["architecture"] == "arm64")
    shop.get(f"manifests/{other['digest']}", bearer).expect(404)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(shop: Shop, method: str) -> None:
    refused = shop.get("blobs/uploads/", shop.bearer(), method=method).expect(405)
    assert refused.json()["errors"][0]["code"] == "UNSUPPORTED"
    assert refused.headers["Allow"] == "GET,HEAD"


@pytest.mark.parametrize(
    ("path", "header"), [("tags/list?last=" + "x" * 9000, ""), ("tags/list", "hush" * 2500)]
)
def test_what_is_too_long_is_a_bad_request_that_leaves_nothing_in_the_log(
    shop: Shop, path: str, header: str
) -> None:
    shop.get(path, header or shop.bearer()).expect(400)
    log = shop.server.log.read_text()
    assert "LineTooLong" in log
    assert "xxxx" not in log
    assert "hush" not in log


def test_there_is_no_catalog(shop: Shop) -> None:
    url = f"{shop.server.url}/v2/_catalog"
    request("GET", url, headers={"Authorization": f"Bearer {shop.bearer()}"}).expect(404)


def test_a_login_burns_nothing_and_opens_only_the_version_check(shop: Shop) -> None:
    token = shop.mint()
    login = shop.exchange(token, scope="").expect(200).json()["token"]
    version = {"Authorization": f"Bearer {login}"}
    assert request("GET", f"{shop.server.url}/v2/", headers=version).expect(200).json() == {}
    shop.get("manifests/latest", login).expect(403)
    assert shop.server.operator.token_state(token) == "minted"


def test_a_scope_for_another_repository_gets_no_access_and_burns_nothing(shop: Shop) -> None:
    token = shop.mint()
    answer = shop.exchange(token, scope="repository:acme/default/other:pull").expect(200)
    bearer = answer.json()["access_token"]
    shop.get("manifests/latest", bearer, repository="acme/default/other").expect(403)
    shop.get("manifests/latest", bearer).expect(403)
    assert shop.causes(token) == ["outside_scope"] * 3
    assert shop.server.operator.token_state(token) == "minted"


def test_the_tags_of_a_session_are_those_that_it_can_fetch(shop: Shop, upstream: Upstream) -> None:
    own = open_shop(shop.server, upstream, images.multi_platform())
    first = own.bearer()
    customer = shop.server.customer(own.organization)
    access = {"basic": {"username": upstream.username, "password": upstream.password}}
    image = upstream.reference(images.random_layers())
    customer.patch(own.group, {"container": {"image": image, "registry_authentication": access}})
    customer.wait_settled(own.group)
    assert own.get("tags/list", first).expect(200).json()["tags"] == ["latest", "v1"]
    assert own.get("tags/list", own.bearer()).expect(200).json()["tags"] == ["latest", "v2"]


def test_both_forms_of_exchange_open_one_session(shop: Shop) -> None:
    token = shop.mint()
    form = (
        f"grant_type=password&service=crisper&username={shop.node.node_id}&client_id=test"
        f"&password={token.password(shop.node)}&scope=repository:{shop.repository}:pull"
    )
    url, kind = f"{shop.server.url}/token", "application/x-www-form-urlencoded"
    posted = request("POST", url, headers={"Content-Type": kind}, body=form.encode()).expect(200).json()
    got = shop.exchange(token).expect(200).json()
    assert posted["access_token"] == posted["token"]
    assert got["expires_in"] > 60
    shop.get("manifests/latest", posted["token"]).expect(200)
    shop.get("manifests/latest", got["token"]).expect(200)
    redeemed = shop.server.operator.redemptions(token)
    assert len(redeemed) == 1


def test_a_form_of_another_grant_sends_clients_on_to_get(shop: Shop) -> None:
    url, kind = f"{shop.server.url}/token", "application/x-www-form-urlencoded"
    body = b"grant_type=refresh_token&service=crisper&refresh_token=x"
    assert request("POST", url, headers={"Content-Type": kind}, body=body).expect(400).json()["errors"]


def test_the_realm_refuses_alike_and_records_apart(shop: Shop) -> None:
    stranger = shop.server.operator.create_node()
    token = shop.mint()
    wrong_secret = basic(shop.node.node_id, f"{token.token}~{'x' * 43}")
    url = f"{shop.server.url}/token?service=crisper&scope=repository:{shop.repository}:pull"
    answers = [
        shop.exchange(token, stranger).expect(401),
        request("GET", url, headers={"Authorization": wrong_secret}).expect(401),
        request("GET", url, headers={"Authorization": "Basic %%%"}).expect(401),
        request("GET", url).expect(401),
    ]
    texts = {json.dumps(a.json()["errors"][0] | {"detail": None}) for a in answers}
    assert len(texts) == 1
    assert all(a.headers["WWW-Authenticate"] == 'Basic realm="crisper"' for a in answers)
    assert shop.causes(token) == ["wrong_node", "wrong_secret"]
    shop.exchange(token).expect(200)


def test_a_revoked_token_ends_its_session_at_the_next_request(shop: Shop) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    shop.get("manifests/latest", bearer).expect(200)
    shop.server.operator.revoke(token)
    refused = shop.get("manifests/latest", bearer).expect(401)
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    shop.exchange(token).expect(401)
    assert shop.causes(token) == ["revoked", "revoked"]


def test_a_session_counts_what_it_delivers_and_refuses_beyond_its_budget(shop: Shop) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    digest, size = layer_of(shop, bearer)
    for _ in range(2):
        shop.get(f"blobs/{digest}", bearer).expect(200)
    shown = shop.server.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["state"] == "active"
    assert shown["session"]["bytes_delivered"] == 2 * size


def test_the_public_keys_are_published(shop: Shop) -> None:
    answer = request("GET", f"{shop.server.url}/.well-known/jwks.json").expect(200)
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["crv"], "d" in key) == ("EC", "P-256", False)
