"""Upstreams that cut, lie, throttle and attack, and what the customer reads of it."""

import asyncio
import random
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from registry.errors import (
    AuthenticationFailedError,
    ImportFailedError,
    PullFailedError,
    UpstreamUnavailableError,
)
from registry.imports import transfer
from tests.integration.upstream.conftest import FAST, Bench, credential
from tests.support.distribution import Image, descriptor, digest_of, make_image, make_index
from tests.support.range_quirks import hang_up
from tests.support.upstream_faults import (
    Fault,
    FaultyUpstream,
    body,
    cut_after,
    drip,
    redirect,
    slow_by,
    status,
)

LAYER = random.Random(11).randbytes(1_000_000)
IMAGE = make_image([LAYER])
DIGEST = digest_of(LAYER)


async def imported(bench: Bench, upstream: FaultyUpstream, *listed: FaultyUpstream) -> None:
    """Import `app:1` and check that it is IMAGE, whole."""
    hosts = tuple(server.host for server in (upstream, *listed))
    stored = await bench.run(f"{upstream.host}/app:1", insecure=hosts)
    assert str(stored.digest) == IMAGE.root
    await bench.holds(IMAGE)


@pytest.mark.parametrize("tenth", range(10))
async def test_a_cut_body_is_resumed_from_its_last_byte(
    bench: Bench, upstream: FaultyUpstream, tenth: int
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, cut_after(tenth * 100_000))
    await imported(bench, upstream)
    first, second = upstream.starts(DIGEST)
    assert 0 == first <= second <= tenth * 100_000
    assert second or not tenth
    assert bench.reports[-1].bytes_done == len(LAYER)


async def test_cuts_without_end_are_a_failure_to_pull_and_leave_nothing_behind(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, cut_after(10), *[cut_after(0)] * 10)
    with pytest.raises(PullFailedError, match="broke off in the middle"):
        await bench.run(f"{upstream.host}/app:1")
    assert bench.backend.objects == {}


async def test_an_upstream_that_ignores_ranges_is_read_again_from_its_start(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, cut_after(400_000), body(LAYER))
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 2


@pytest.mark.parametrize("code", [429, 500, 502, 503])
async def test_a_burst_of_refusals_is_waited_out(bench: Bench, upstream: FaultyUpstream, code: int) -> None:
    upstream.add(IMAGE)
    upstream.fail("1", status(code), status(code, Retry_After="0"))
    upstream.fail(DIGEST, status(code), status(code))
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 3


async def test_retry_after_is_honoured(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.fail("1", status(429, Retry_After="1"))
    started = asyncio.get_running_loop().time()
    await imported(bench, upstream)
    assert asyncio.get_running_loop().time() - started >= 1


async def test_a_retry_after_beyond_patience_fails_at_once_and_says_how_long(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail("1", status(429, Retry_After="21600"))
    with pytest.raises(PullFailedError, match="360 minutes"):
        await bench.run(f"{upstream.host}/app:1")


async def test_wrong_bytes_are_a_failure_to_pull(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, body(b"x" * len(LAYER)))
    with pytest.raises(PullFailedError, match="other bytes for the"):
        await bench.run(f"{upstream.host}/app:1")
    assert bench.backend.objects == {}


@pytest.mark.parametrize("size", [len(LAYER) - 1, len(LAYER) + 1])
async def test_a_length_that_differs_from_the_manifest_is_refused(
    bench: Bench, upstream: FaultyUpstream, size: int
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, body(b"x" * size))
    with pytest.raises(PullFailedError, match="another size"):
        await bench.run(f"{upstream.host}/app:1")


async def test_a_chunked_body_that_is_too_long_is_refused_as_it_arrives(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, body(LAYER + b"!", chunked=True))
    with pytest.raises(PullFailedError, match="more of the blob"):
        await bench.run(f"{upstream.host}/app:1")


async def test_a_chunked_body_that_is_too_short_is_asked_for_its_rest(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, body(LAYER[:77], chunked=True))
    await imported(bench, upstream)
    assert upstream.starts(DIGEST) == [0, 77]


async def test_a_silent_upstream_times_out_and_is_tried_again(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)

    async def hang(*_: object) -> None:
        await asyncio.sleep(3)

    upstream.fail(DIGEST, hang)  # type: ignore[arg-type]
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 2


async def test_an_upstream_that_drips_is_given_up(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, *[drip] * 10)
    with pytest.raises(PullFailedError, match="too slowly"):
        await bench.run(f"{upstream.host}/app:1")
    whole = 1  # which shows whether the upstream is slow because of ranges
    assert upstream.count(DIGEST) == FAST.attempts + whole


@pytest.mark.parametrize(("minimum", "fails"), [(1_000_000, True), (50_000, False)])
async def test_an_upstream_below_the_minimum_rate_fails_the_import(
    bench: Bench, upstream: FaultyUpstream, minimum: int, *, fails: bool
) -> None:
    download = replace(bench.options.download, min_bytes_per_s=minimum, rate_window_s=0.6)
    bench.options = replace(bench.options, download=download)
    upstream.add(IMAGE)
    upstream.fail(DIGEST, *[slow_by(3)] * 2)
    if not fails:
        await imported(bench, upstream)
        return
    with pytest.raises(PullFailedError, match=f"{upstream.host} sends too slowly: .* imports need 1000 kB/s"):
        await bench.run(f"{upstream.host}/app:1")
    assert upstream.count(DIGEST) == 1


async def test_a_transfer_that_takes_longer_than_its_size_allows_fails(
    bench: Bench, upstream: FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "DEADLINE_S", 0.1)
    download = replace(bench.options.download, min_bytes_per_s=2 * len(LAYER))
    bench.options = replace(bench.options, download=download)
    upstream.add(IMAGE)
    upstream.fail(DIGEST, slow_by(3))
    started = asyncio.get_running_loop().time()
    with pytest.raises(PullFailedError, match=f"{upstream.host} did not send the image within"):
        await bench.run(f"{upstream.host}/app:1")
    assert asyncio.get_running_loop().time() - started < 2
    assert bench.backend.objects == {}


async def test_a_tampered_manifest_is_refused(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    kind, data = IMAGE.manifests[IMAGE.root]
    upstream.fail(IMAGE.root, body(data + b" ", kind))
    with pytest.raises(PullFailedError, match="other bytes for the"):
        await bench.run(f"{upstream.host}/app@{IMAGE.root}")


async def test_an_image_for_another_platform_is_a_failure_to_pull(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(make_image([b"x"], architecture="arm64"), "single")
    upstream.add(make_index({"linux/arm64": make_image([b"x"], architecture="arm64")}), "index")
    for tag in ("single", "index"):
        with pytest.raises(PullFailedError, match="no image for linux/amd64"):
            await bench.run(f"{upstream.host}/app:{tag}")


async def test_where_an_index_names_no_platforms_the_configs_tell(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    images = {"": make_image([b"x"], architecture="arm64"), " ": make_image([b"x"], architecture="s390x")}
    upstream.add(make_index({**images, "  ": IMAGE}, unnamed=True))
    stored = await bench.run(f"{upstream.host}/app:1")
    assert str(stored.manifest_digest) == IMAGE.root
    assert stored.platform == "linux/amd64"


async def test_indexes_nested_too_deep_are_refused(bench: Bench, upstream: FaultyUpstream) -> None:
    nested = IMAGE
    for tag in ("one", "two", "three"):
        nested = make_index({"linux/amd64": nested})
        upstream.add(nested, tag)
    await bench.run(f"{upstream.host}/app:two")
    await bench.holds(IMAGE)
    with pytest.raises(PullFailedError, match="deeper than 2"):
        await bench.run(f"{upstream.host}/app:three")


async def test_a_layer_that_occurs_twice_is_fetched_once(bench: Bench, upstream: FaultyUpstream) -> None:
    image = make_image([LAYER, b"y", LAYER])
    upstream.add(image)
    stored = await bench.run(f"{upstream.host}/app:1")
    assert upstream.count(DIGEST) == 1
    assert stored.size_bytes == sum(map(len, image.blobs.values()))


async def test_what_the_organization_has_is_not_fetched_again(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    await imported(bench, upstream)
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 1
    assert bench.reports[-1].bytes_done == len(LAYER)


# -- tokens -------------------------------------------------------------------------------------


async def test_a_token_refused_midway_is_replaced_once(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    challenge = f'Bearer realm="http://{upstream.host}/token",service="upstream",error="invalid_token"'
    upstream.fail(DIGEST, status(401, WWW_Authenticate=challenge))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    assert upstream.count("/token") == 2


async def test_a_token_refused_again_and_again_is_a_failure_to_authenticate(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    challenge = f'Bearer realm="http://{upstream.host}/token",service="upstream"'
    upstream.fail(DIGEST, *[status(401, WWW_Authenticate=challenge)] * 3)
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert upstream.count("/token") == 2


async def test_a_token_is_renewed_before_it_lapses(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(make_image([bytes([n]) * 10 for n in range(4)]))
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.expires_in = 0.05
    await bench.run(f"{upstream.host}/app:1", credential())
    refusals = [seen for seen in upstream.seen if seen.path != "/token" and seen.authorization is None]
    assert len(refusals) <= 2
    assert upstream.count("/token") >= 1


async def test_a_stream_that_outlasts_its_token_continues_with_a_new_one(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.expires_in = 5
    upstream.fail(DIGEST, slow_by(6, cut_at=600_000))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    first, second = (seen.authorization for seen in upstream.seen if seen.path.endswith(DIGEST))
    assert first != second
    assert upstream.starts(DIGEST)[1] > 0
    assert upstream.count("/token") == 2


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refusal_at_the_token_step_is_a_failure_to_authenticate(
    bench: Bench, upstream: FaultyUpstream, code: int
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.token_status = code
    with pytest.raises(AuthenticationFailedError, match="app"):
        await bench.run(f"{upstream.host}/app:1", credential())


async def test_a_realm_in_passing_trouble_is_asked_again(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.fail("token", status(503), status(429, Retry_After="0"))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    assert upstream.count("/token") >= 3


async def test_a_forbidden_manifest_is_a_failure_to_authenticate(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.fail("1", status(403), status(403))
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert [seen.authorization is None for seen in upstream.seen] == [True, True, False]


async def test_one_stray_401_after_a_success_is_tried_once_more(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss")
    upstream.fail(DIGEST, status(401, WWW_Authenticate='Basic realm="upstream"'))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    assert upstream.count(DIGEST) == 2


async def test_a_stray_401_of_a_registry_without_logins_is_tried_once_more(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, status(401))
    await imported(bench, upstream)
    assert upstream.count(DIGEST) == 2


@pytest.mark.parametrize("failures", [2, 10])
async def test_credentials_that_are_refused_twice_are_refused(
    bench: Bench, upstream: FaultyUpstream, failures: int
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss")
    upstream.fail(DIGEST, *[status(401, WWW_Authenticate='Basic realm="upstream"')] * failures)
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert upstream.count(DIGEST) == 2


async def test_wrong_credentials_are_shown_once(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "another")
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert [seen.authorization is None for seen in upstream.seen] == [True, False]


async def test_one_stray_401_at_the_realm_is_tried_once_more(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.fail("token", status(401))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    assert upstream.count("/token") == 2


async def test_a_realm_that_refuses_twice_is_asked_no_further(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.token_status = 401
    with pytest.raises(AuthenticationFailedError):
        await bench.run(f"{upstream.host}/app:1", credential())
    assert upstream.count("/token") == 2


@pytest.mark.parametrize("skew_s", [-90_000, 0, 400 * 86_400])
async def test_a_retry_after_from_a_wrong_clock_is_honoured(
    bench: Bench, upstream: FaultyUpstream, skew_s: int
) -> None:
    upstream.add(IMAGE)
    there = time.time() + skew_s
    headers = {"Date": formatdate(there, usegmt=True), "Retry_After": formatdate(there + 1, usegmt=True)}
    upstream.fail("1", status(429, **headers))
    started = asyncio.get_running_loop().time()
    await imported(bench, upstream)
    assert 1 <= asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize(
    "value", ["99999999999999999999", "1e9", "-1", "soon", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
async def test_an_absurd_retry_after_is_ignored(bench: Bench, upstream: FaultyUpstream, value: str) -> None:
    upstream.add(IMAGE)
    upstream.fail("1", status(503, Retry_After=value))
    await imported(bench, upstream)


@pytest.mark.parametrize("name", ["1", DIGEST])
@pytest.mark.parametrize("fault", [status(429), status(502), status(503), status(504), hang_up])
async def test_progress_says_that_the_registry_does_not_answer(
    bench: Bench, upstream: FaultyUpstream, name: str, fault: Fault
) -> None:
    upstream.add(IMAGE)
    upstream.fail(name, fault, fault)  # aiohttp itself tries once more if an idle connection was closed
    await imported(bench, upstream)
    said = [str(report) for report in bench.reports if report.retry]
    assert said
    assert all(each.startswith("pulling: the registry does not answer, trying again (") for each in said)
    assert all(upstream.host in each for each in said)
    assert not bench.reports[-1].retry


@pytest.mark.parametrize(
    ("code", "times", "outage"), [(503, 10, True), (500, 10, False), (500, 0, True)], ids=str
)
async def test_a_server_error_after_an_answer_is_an_outage_and_so_is_any_503(
    bench: Bench, upstream: FaultyUpstream, code: int, times: int, *, outage: bool
) -> None:
    """An outage is worth a delayed retry of the import; a registry that never worked is not."""
    upstream.add(IMAGE)
    upstream.fail("1", *[status(code)] * times)
    upstream.always(DIGEST, status(code))
    with pytest.raises(UpstreamUnavailableError) as failure:
        await bench.run(f"{upstream.host}/app:1")
    assert failure.value.outage is outage


# -- attacks ------------------------------------------------------------------------------------


async def test_a_redirect_to_another_origin_carries_no_authorization(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    other.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss")
    upstream.fail(DIGEST, redirect(f"http://{other.host}/blobs/{DIGEST}?signature=x"))
    await bench.run(f"{upstream.host}/app:1", credential(), insecure=(upstream.host, other.host))
    await bench.holds(IMAGE)
    assert [seen.authorization for seen in other.seen] == [None]


async def test_a_redirect_within_the_origin_keeps_its_authorization(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss")
    upstream.fail(DIGEST, redirect(f"/elsewhere/blobs/{DIGEST}"))
    await bench.run(f"{upstream.host}/app:1", credential())
    await bench.holds(IMAGE)
    (elsewhere,) = (seen for seen in upstream.seen if seen.path.startswith("/elsewhere/"))
    assert elsewhere.authorization


async def test_a_signed_address_that_lapsed_is_asked_for_again(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream
) -> None:
    upstream.add(IMAGE)
    upstream.fail(DIGEST, redirect(f"http://{other.host}/blobs/{DIGEST}"))
    other.fail(DIGEST, status(403))
    await imported(bench, upstream, other)
    assert upstream.count(DIGEST) == 2


async def test_an_upstream_at_a_private_address_is_refused_unless_listed(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    with pytest.raises(PullFailedError, match="private or reserved address"):
        await bench.run(f"{upstream.host}/app:1", insecure=())
    with pytest.raises(PullFailedError, match="private or reserved address"):
        await bench.run("localhost/app:1", insecure=())
    assert upstream.seen == []


async def test_no_failure_shows_a_credential_in_any_form(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.want("robot$ci", "s3cret:päss")
    upstream.fail("1", status(401, WWW_Authenticate="Basic"), cut_after(0), status(401))
    with pytest.raises(ImportFailedError) as failure:
        await bench.run(f"{upstream.host}/app:1", credential())
    chain: BaseException | None = failure.value
    while chain is not None:
        for text in ("s3cret", "robot$ci", upstream.basic or "-"):
            assert text not in repr(chain) + str(chain) + repr(vars(chain))
        chain = chain.__context__ or chain.__cause__


async def test_foreign_urls_of_a_layer_are_not_followed(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream
) -> None:
    kind, data = IMAGE.manifests[IMAGE.root]
    layer = str(descriptor("application/vnd.oci.image.layer.v1.tar+gzip", LAYER)["digest"]).encode()
    urls = b'"urls":["http://' + other.host.encode() + b'/x"],"digest": "' + layer
    tricked = data.replace(b'"digest": "' + layer, urls)
    upstream.add(Image(digest_of(tricked), {digest_of(tricked): (kind, tricked)}, IMAGE.blobs))
    await bench.run(f"{upstream.host}/app:1", insecure=(upstream.host, other.host))
    assert other.seen == []
