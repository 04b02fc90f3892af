"""Each kind of failure, as a customer reads it: reason, registry with its port, step, and document.

Real requests to a faulty upstream; one row a kind.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from registry.errors import ImportFailedError
from tests.integration.upstream.conftest import Bench, credential
from tests.support.distribution import digest_of, make_image
from tests.support.failures import STEP, is_documented
from tests.support.processes import free_port
from tests.support.range_quirks import hang_up
from tests.support.upstream_faults import (
    Fault,
    FaultyUpstream,
    body,
    cut_after,
    drip,
    redirect,
    status,
)

LAYER = random.Random(31).randbytes(200_000)
IMAGE = make_image([LAYER])
DIGEST = digest_of(LAYER)
TIMES = 20
AUTHENTICATE, PULL, TOO_LARGE = "failed to authenticate", "failed to pull", "image too large"
BASIC = {"WWW_Authenticate": 'Basic realm="upstream"'}

Arrange = Callable[[FaultyUpstream], None]


def fails(name: str, fault: Fault) -> Arrange:
    return lambda upstream: upstream.fail(name, *[fault] * TIMES)


def wants(password: str, *, token: Fault | None = None, realm: str | None = "http://HOST/token") -> Arrange:
    def arrange(upstream: FaultyUpstream) -> None:
        upstream.want("robot$ci", password, realm=realm and realm.replace("HOST", upstream.host))
        if token is not None:
            upstream.fail("token", *[token] * TIMES)

    return arrange


@dataclass(frozen=True)
class Case:
    """One kind of failure.

    Attributes:
        says: A part of the sentence that is characteristic.
        image: `HOST` stands for the upstream, `DOWN` for a port that nobody listens on.
        has_host: The sentence names the upstream.
    """

    name: str
    arrange: Arrange
    reason: str
    says: str
    image: str = "HOST/app:1"
    with_credentials: bool = False
    has_host: bool = True
    insecure: bool = True


def nothing(_: FaultyUpstream) -> None:
    """Arrange no fault."""


RIGHT = "s3cret:päss"


def limited(upstream: FaultyUpstream) -> None:
    """Answer 429 to everybody whose password is right."""
    wants(RIGHT, realm=None)(upstream)
    upstream.always("1", status(429))


CASES = [
    Case(
        "wrong password", wants("another", realm=None), AUTHENTICATE, "refuses these", with_credentials=True
    ),
    Case(
        "wrong password at the realm", wants("another"), AUTHENTICATE, "refuses these", with_credentials=True
    ),
    Case("no credentials", wants(RIGHT, realm=None), AUTHENTICATE, "denies anonymous access"),
    Case("no credentials at the realm", wants(RIGHT), AUTHENTICATE, "denies anonymous access"),
    Case("403", fails("1", status(403)), AUTHENTICATE, "denies anonymous access"),
    Case(
        "403 to a layer, never asked",
        fails(DIGEST, status(403)),
        AUTHENTICATE,
        "without asking for the credentials",
        with_credentials=True,
    ),
    Case(
        "unknown scheme", fails("1", status(401, WWW_Authenticate="Negotiate")), AUTHENTICATE, "kind of login"
    ),
    Case(
        "realm elsewhere",
        wants(RIGHT, realm="https://example.com/token"),
        AUTHENTICATE,
        "not known to belong",
        with_credentials=True,
    ),
    Case("no such tag", nothing, PULL, "check its spelling", image="HOST/app:2"),
    Case("no such digest", nothing, PULL, "not deleted since", image=f"HOST/app@{digest_of(b'no')}"),
    Case("410", fails("1", status(410)), PULL, "check its spelling"),
    Case("a layer is gone", fails(DIGEST, status(404)), PULL, "a part of"),
    Case("a layer is gone, 410", fails(DIGEST, status(410)), PULL, "a part of"),
    Case("418", fails("1", status(418)), PULL, "answers 418"),
    Case("204", fails("1", status(204)), PULL, "answers 204"),
    Case("500", fails("1", status(500)), PULL, "answers 500"),
    Case("503", fails(DIGEST, status(503)), PULL, "answers 503"),
    Case("429", fails("1", status(429)), PULL, "without credentials for now"),
    Case("429 for hours", fails("1", status(429, Retry_After="21600")), PULL, "after 360 minutes"),
    Case(
        "429 with credentials",
        limited,
        PULL,
        "with these credentials for now",
        with_credentials=True,
    ),
    Case("the realm is down", wants(RIGHT, token=status(502)), PULL, "answers 502", with_credentials=True),
    Case("the realm is odd", wants(RIGHT, token=status(418)), PULL, "answers 418", with_credentials=True),
    Case("no token", wants(RIGHT, token=body(b"{}")), PULL, "without a token", with_credentials=True),
    Case("no JSON", wants(RIGHT, token=body(b"<html>")), PULL, "without a token", with_credentials=True),
    Case(
        "a huge token", wants(RIGHT, token=body(b"x" * 70_000)), PULL, "of more than", with_credentials=True
    ),
    Case(
        "an invalid realm", wants(RIGHT, realm="/token"), PULL, "invalid token realm", with_credentials=True
    ),
    Case("hangs up", fails(DIGEST, hang_up), PULL, "broke off before it answered"),
    Case("cuts", fails(DIGEST, cut_after(0)), PULL, "broke off in the middle"),
    Case(
        "ends early",
        fails(DIGEST, body(LAYER[:9], chunked=True)),
        PULL,
        "broke off in the middle of the blob",
    ),
    Case("drips", fails(DIGEST, drip), PULL, "sends too slowly"),
    Case("other bytes", fails(DIGEST, body(b"x" * len(LAYER))), PULL, "other bytes for the layer"),
    Case("another size", fails(DIGEST, body(LAYER[1:])), PULL, "in another size"),
    Case("too much", fails(DIGEST, body(LAYER + b"!", chunked=True)), PULL, "sends more of the blob"),
    Case(
        "other manifest", fails(IMAGE.root, body(b"{}")), PULL, "other bytes", image=f"HOST/app@{IMAGE.root}"
    ),
    Case("a huge manifest", fails("1", body(b"x" * (5 << 20))), PULL, "of more than 4 MiB, the limit"),
    Case("a login page", fails("1", body(b"<html>", "text/html")), PULL, "cannot be imported"),
    Case("redirects in a circle", fails(DIGEST, redirect(f"/v2/app/blobs/{DIGEST}")), PULL, "too often"),
    Case("redirects to no URL", fails(DIGEST, redirect("http://[x")), PULL, "redirects to an invalid URL"),
    Case(
        "redirects to HTTP",
        fails(DIGEST, redirect("http://example.com/x")),
        PULL,
        "which is not allowed",
        has_host=False,
    ),
    Case(
        "redirects to a private address",
        fails(DIGEST, redirect("https://10.0.0.1/x")),
        PULL,
        "private or reserved",
        has_host=False,
    ),
    Case("a private registry", nothing, PULL, "private or reserved", insecure=False),
    Case("nobody listens", nothing, PULL, "cannot be reached: check", image="DOWN/app:1", has_host=False),
    Case(
        "no such name",
        nothing,
        PULL,
        "cannot be resolved",
        image="registry.invalid:5000/app:1",
        has_host=False,
    ),
    Case("too large", nothing, TOO_LARGE, "the limit is", has_host=False, image="HOST/app:1"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_failure_has_reason_host_step_and_a_row_in_the_document(
    bench: Bench, upstream: FaultyUpstream, case: Case
) -> None:
    upstream.add(IMAGE)
    case.arrange(upstream)
    image = case.image.replace("HOST", upstream.host).replace("DOWN", f"127.0.0.1:{free_port()}")
    bench.limit = 10 if case.reason == TOO_LARGE else bench.limit
    given = credential() if case.with_credentials else None
    insecure = (image.partition("/")[0],) if case.insecure else ()
    with pytest.raises(ImportFailedError) as failure:
        await bench.run(image, given, insecure=insecure)
    sentence = failure.value.sentence
    assert case.says in sentence
    assert failure.value.reason == case.reason
    assert not case.has_host or upstream.host in sentence
    assert STEP.search(sentence), sentence
    assert is_documented(case.reason, sentence), sentence
