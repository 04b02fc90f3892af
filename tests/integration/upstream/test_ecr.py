"""Amazon ECR's own ways: a password that lapses as a 403, and an API that refuses or is in trouble."""

import base64
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from auth.secret import Secret
from registry.errors import AuthenticationFailedError, PullFailedError
from registry.model.imports import CredentialKind, UpstreamCredential
from registry.upstream.egress import EgressGuard
from tests.integration.upstream.conftest import Bench
from tests.support.distribution import digest_of, make_image, serve
from tests.support.names import Names
from tests.support.upstream_faults import FaultyUpstream, status

LAYER = b"layer" * 1_000
IMAGE = make_image([LAYER])
NAME = "123456789012.dkr.ecr.eu-central-1.amazonaws.test"
KEY = UpstreamCredential("AKIAEXAMPLE", Secret("canary-of-the-key"), CredentialKind.AWS_ACCESS_KEY)


@dataclass
class Api:
    """ECR's API: gives one password after another, and what is queued as `answers` before that."""

    host: str = ""
    answers: deque[tuple[int, object]] = field(default_factory=deque)
    asked: list[web.Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.answers:
            code, document = self.answers.popleft()
            return web.json_response(document, status=code)
        return web.json_response(token(f"password-{len(self.asked)}"))


def token(password: str, **more: object) -> dict[str, object]:
    pair = base64.b64encode(f"AWS:{password}".encode()).decode()
    return {"authorizationData": [{"authorizationToken": pair, "expiresAt": time.time() + 43_200, **more}]}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    served, app = Api(), web.Application()
    app.router.add_post("/", served.handle)
    async with serve(app) as host:
        served.host = host
        yield served


async def pull(bench: Bench, upstream: FaultyUpstream, api: Api, key: UpstreamCredential = KEY) -> None:
    port = upstream.host.rpartition(":")[2]
    upstream.add(IMAGE)
    stored = await bench.run(
        f"{NAME}:{port}/app:1",
        key,
        guard=EgressGuard([f"{NAME}:{port}", api.host]),
        ecr_endpoint=f"http://{api.host}/",
        resolver=Names({NAME: ["127.0.0.1"]}),
    )
    assert str(stored.digest) == IMAGE.root


async def test_the_password_is_asked_for_once_and_shown_to_every_request(
    bench: Bench, upstream: FaultyUpstream, api: Api
) -> None:
    upstream.want("AWS", "password-1")
    await pull(bench, upstream, api)
    (asked,) = api.asked
    assert asked.headers["X-Amz-Target"].endswith(".GetAuthorizationToken")
    assert "/eu-central-1/ecr/aws4_request" in asked.headers["Authorization"]
    assert "canary" not in json.dumps([seen.authorization for seen in upstream.seen])


async def test_a_password_that_lapsed_is_replaced_once(
    bench: Bench, upstream: FaultyUpstream, api: Api
) -> None:
    upstream.want("AWS", "password-1")

    async def lapse(*_: object) -> web.Response:
        upstream.want("AWS", "password-2")
        return web.json_response({"errors": [{"code": "DENIED", "message": "token has expired"}]}, status=403)

    upstream.fail(digest_of(LAYER), lapse)
    await pull(bench, upstream, api)
    assert len(api.asked) == 2


async def test_a_fresh_password_that_is_refused_is_a_failure_to_authenticate(
    bench: Bench, upstream: FaultyUpstream, api: Api
) -> None:
    upstream.want("AWS", "password-1")
    upstream.fail("1", *[status(401, WWW_Authenticate="Basic")], *[status(403)] * 9)
    with pytest.raises(AuthenticationFailedError, match="refuses these credentials for app"):
        await pull(bench, upstream, api)
    assert len(api.asked) == 2


async def test_a_password_is_replaced_before_its_time_is_up(
    bench: Bench, upstream: FaultyUpstream, api: Api
) -> None:
    upstream.want("AWS", "password-1")
    api.answers.append((200, token("password-1", expiresAt=time.time() - 1_000_000)))  # a clock that is off
    await pull(bench, upstream, api)
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, "UnrecognizedClientException"),
        (400, "com.amazonaws#InvalidSignatureException"),
        (400, "AccessDeniedException"),
        (403, ""),
    ],
)
async def test_a_refused_key_is_a_failure_to_authenticate(
    bench: Bench, upstream: FaultyUpstream, api: Api, code: int, kind: str
) -> None:
    upstream.want("AWS", "password-1")
    api.answers.append((code, {"__type": kind, "message": "canary-of-the-key"}))
    with pytest.raises(AuthenticationFailedError, match="allows ecr:GetAuthorizationToken") as failure:
        await pull(bench, upstream, api)
    assert "canary" not in str(failure.value)


async def test_an_api_in_passing_trouble_is_asked_again(
    bench: Bench, upstream: FaultyUpstream, api: Api
) -> None:
    upstream.want("AWS", "password-3")
    api.answers += [(400, {"__type": "ThrottlingException"}), (503, {})]
    await pull(bench, upstream, api)
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"authorizationData": []}, token(""), {"authorizationData": [{"authorizationToken": "%"}]}],
)
async def test_an_answer_without_a_token_is_a_failure_to_pull(
    bench: Bench, upstream: FaultyUpstream, api: Api, answer: object
) -> None:
    upstream.want("AWS", "password-1")
    api.answers.append((200, answer))
    with pytest.raises(PullFailedError, match="answers without a token"):
        await pull(bench, upstream, api)


async def test_a_huge_answer_is_a_failure_to_pull(bench: Bench, upstream: FaultyUpstream, api: Api) -> None:
    upstream.want("AWS", "password-1")
    api.answers.append((200, token("x" * 100_000)))
    with pytest.raises(PullFailedError, match="sent a token of more than 64 KiB"):
        await pull(bench, upstream, api)


async def test_an_access_key_goes_to_amazon_only(bench: Bench, upstream: FaultyUpstream) -> None:
    with pytest.raises(AuthenticationFailedError, match="is no Amazon ECR registry"):
        await bench.run(f"{upstream.host}/app:1", KEY)
    assert [seen for seen in upstream.seen if seen.authorization] == []


async def test_the_api_is_vetted_like_any_other_address(bench: Bench, upstream: FaultyUpstream) -> None:
    """Without an exception of the operator's, a name that leads to a private address is not spoken to."""
    name, port = "123456789012.dkr.ecr.eu-central-1.amazonaws.com", upstream.host.rpartition(":")[2]
    upstream.want("AWS", "password-1")
    names = Names({name: ["127.0.0.1"], "api.ecr.eu-central-1.amazonaws.com": ["169.254.169.254"]})
    guard = EgressGuard([f"{name}:{port}"])
    with pytest.raises(PullFailedError, match=r"api\.ecr.*is at a private or reserved address"):
        await bench.run(f"{name}:{port}/app:1", KEY, guard=guard, resolver=names)
