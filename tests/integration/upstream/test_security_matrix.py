"""What hostile registries try, and how each try ends: the error, and the sentence that the customer reads.

What a fault of the transfer does is in test_faults.py, which addresses are refused in
tests/unit/registry/upstream/test_egress.py.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from registry.errors import (
    AuthenticationFailedError,
    ImportFailedError,
    PullFailedError,
    UpstreamUnavailableError,
)
from registry.upstream.egress import EgressGuard
from tests.integration.upstream.conftest import Bench, credential
from tests.support.distribution import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    descriptor,
    digest_of,
    make_image,
)
from tests.support.names import Names
from tests.support.upstream_faults import FaultyUpstream, body, redirect

LAYER = random.Random(13).randbytes(5_000)
IMAGE = make_image([LAYER])
DIGEST = digest_of(LAYER)
CONFIG = descriptor(OCI_CONFIG, b"{}")
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@dataclass(frozen=True)
class Attack:
    """One try.

    Attributes:
        arrange: Sets the registry up; it is given another server too, which must never be spoken to.
        sentence: Of the failure, as a regular expression from its start.
    """

    name: str
    arrange: Callable[[FaultyUpstream, FaultyUpstream], None]
    sentence: str
    error: type[ImportFailedError] = PullFailedError
    with_credentials: bool = False


def realm(url: str) -> Callable[[FaultyUpstream, FaultyUpstream], None]:
    def arrange(upstream: FaultyUpstream, other: FaultyUpstream) -> None:
        upstream.want("robot$ci", "s3cret:päss", realm=url.replace("OTHER", other.host))

    return arrange


def leads(location: str) -> Callable[[FaultyUpstream, FaultyUpstream], None]:
    def arrange(upstream: FaultyUpstream, other: FaultyUpstream) -> None:
        upstream.add(IMAGE)
        upstream.fail(DIGEST, *[redirect(location.replace("OTHER", other.host))] * 9)

    return arrange


def document(fields: object, kind: str = OCI_MANIFEST) -> Callable[[FaultyUpstream, FaultyUpstream], None]:
    def arrange(upstream: FaultyUpstream, _: FaultyUpstream) -> None:
        data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        upstream.fail("1", body(data, kind))

    return arrange


def manifest(**fields: object) -> dict[str, object]:
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [], **fields}


def named(digest: str) -> dict[str, object]:
    return {"mediaType": OCI_LAYER, "digest": digest, "size": 10}


def huge_token(upstream: FaultyUpstream, _: FaultyUpstream) -> None:
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.fail("token", body(b'{"token": "' + b"x" * 70_000 + b'"}', "application/json"))


def redirected_realm(upstream: FaultyUpstream, other: FaultyUpstream) -> None:
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    upstream.fail("token", redirect(f"http://{other.host}/token"))


PRIVATE = r"is at a private or reserved address: use a registry with a public address, or ask the operator"
CLEAR = "does not use TLS"
REFUSED = r"the registry leads to \S+, which is not allowed \("
STRAY = r"127\.0\.0\.1:\d+ wants its credentials sent to \S+, which is not known to belong to it"
UNREADABLE = "cannot be imported: "

REALMS = [
    Attack(f"realm {url}", realm(url), sentence)
    for url, sentence in {
        "http://169.254.169.254/latest/api/token": f"{REFUSED}a URL at 169.254.169.254 {CLEAR}",
        "https://169.254.169.254/latest/api/token": f"169.254.169.254 {PRIVATE}",
        "https://[::ffff:169.254.169.254]/token": rf"\[::ffff:\S+\] {PRIVATE}",
        "https://[::ffff:a00:1]/token": rf"\[::ffff:a00:1\] {PRIVATE}",
        "https://[64:ff9b::a9fe:a9fe]/token": rf"\[64:ff9b::a9fe:a9fe\] {PRIVATE}",
        "https://[2002:a9fe:a9fe::1]/token": rf"\[2002:a9fe:a9fe::1\] {PRIVATE}",
        "https://127.0.0.1/token": f"127.0.0.1 {PRIVATE}",
        "https://localhost/token": f"localhost {PRIVATE}",
        "https://2130706433/token": "2130706433 is not a host that can be reached",
        "http://OTHER/token": f"{REFUSED}a URL at 127.0.0.1:\\d+ {CLEAR}",
        "ftp://example.com/token": f"{REFUSED}only https URLs are allowed",
        "https://user:pass@example.com/token": f"{REFUSED}a URL at example.com carries",
        "/token": r"127\.0\.0\.1:\d+ names an invalid token realm \(the URL is not valid\)",
    }.items()
]
WITH_CREDENTIALS = [
    Attack(f"credentials to {url}", realm(url), STRAY, AuthenticationFailedError, with_credentials=True)
    for url in (
        "http://OTHER/token",
        "https://169.254.169.254/latest/api/token",
        "https://[::ffff:7f00:1]/token",
        "https://localhost/token",
        "https://auth.docker.io/token",
    )
]
REDIRECTS = [
    Attack(f"redirect to {location}", leads(location), sentence)
    for location, sentence in {
        "http://OTHER/blob": f"{REFUSED}a URL at 127.0.0.1:\\d+ {CLEAR}",
        "https://127.0.0.1:1/blob": f"127.0.0.1:1 {PRIVATE}",
        "https://[::1]:1/blob": rf"\[::1\]:1 {PRIVATE}",
        "https://[::ffff:10.0.0.1]/blob": rf"\[::ffff:\S+\] {PRIVATE}",
        "https://10.0.0.1/blob": f"10.0.0.1 {PRIVATE}",
        "http://169.254.169.254/latest/meta-data/": f"{REFUSED}a URL at 169.254.169.254 {CLEAR}",
        "file:///etc/passwd": r"127\.0\.0\.1:\d+ redirects to an invalid URL \(the URL is not valid\)",
        "http://[broken": r"127\.0\.0\.1:\d+ redirects to an invalid URL \(the URL is not valid\)",
        f"/v2/app/blobs/{DIGEST}": r"127\.0\.0\.1:\d+ redirects too often",
    }.items()
]
DOCUMENTS = [
    Attack(name, document(*what), f".*{UNREADABLE}{sentence}")
    for name, what, sentence in (
        (
            "schema 1",
            ({"schemaVersion": 1, "fsLayers": []}, SCHEMA_1),
            "the manifest is Docker schema 1, which is no longer supported: push the image again",
        ),
        (
            "schema 1, unnamed",
            ({"schemaVersion": 1, "fsLayers": []}, "application/json"),
            "the manifest is Docker schema 1",
        ),
        (
            "index and manifest at once",
            (manifest(manifests=[]),),
            "the manifest has both manifests and layers",
        ),
        (
            "an index served as a manifest",
            ({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []},),
            "the manifest's mediaType and its Content-Type do not agree",
        ),
        (
            "a manifest served as an index",
            (manifest(), OCI_INDEX),
            "the manifest's mediaType and its Content-Type do not agree",
        ),
        (
            "Docker's type around OCI's",
            (manifest(), DOCKER_MANIFEST),
            "the manifest's mediaType and its Content-Type do not agree",
        ),
        (
            "300 layers",
            (manifest(layers=[descriptor(OCI_LAYER, bytes([n % 256, n // 256])) for n in range(300)]),),
            "the manifest has more than 256 layers",
        ),
        (
            "a key given twice",
            (b'{"schemaVersion": 2, "schemaVersion": 2}',),
            "the manifest is not valid JSON",
        ),
        (
            "a digest that climbs",
            (manifest(layers=[named("sha256:../../../../etc/passwd")]),),
            "a descriptor in layers has no valid digest",
        ),
        (
            "a config's digest that climbs",
            (manifest(config=named("../../tags/list")),),
            "a descriptor in config has no valid digest",
        ),
        (
            "a digest in capitals",
            (manifest(layers=[named("sha256:" + "A" * 64)]),),
            "a descriptor in layers has no valid digest",
        ),
        (
            "a digest of an unknown kind",
            (manifest(layers=[named("md5:" + "a" * 32)]),),
            "a descriptor in layers has no valid digest",
        ),
        (
            "a negative size",
            (manifest(layers=[{**named(DIGEST), "size": -1}]),),
            "a descriptor in layers has no valid size",
        ),
    )
]
OTHERS = [
    Attack(
        "a huge manifest",
        document(b" " * (5 << 20)),
        r"127\.0\.0\.1:\d+ sent a manifest of more than 4 MiB, the limit of this server.*",
    ),
    Attack(
        "a huge token",
        huge_token,
        r"127\.0\.0\.1:\d+ sent a token of more than 64 KiB",
        with_credentials=True,
    ),
    Attack(
        "a realm that redirects",
        redirected_realm,
        r"127\.0\.0\.1:\d+ redirects to http://127\.0\.0\.1:\d+ when asked for a token",
        with_credentials=True,
    ),
]
ATTACKS = [*REALMS, *WITH_CREDENTIALS, *REDIRECTS, *DOCUMENTS, *OTHERS]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_ends_as_it_has_to(
    bench: Bench, upstream: FaultyUpstream, other: FaultyUpstream, attack: Attack
) -> None:
    attack.arrange(upstream, other)
    with pytest.raises(attack.error) as failure:
        await bench.run(f"{upstream.host}/app:1", credential() if attack.with_credentials else None)
    assert re.match(attack.sentence, failure.value.sentence), failure.value.sentence
    assert type(failure.value) is attack.error
    assert other.seen == []
    assert bench.backend.objects == {}


async def test_a_name_that_resolves_to_a_private_address_is_refused(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    """Whatever the name led to before: the last resolution is the one that is vetted."""
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254"):
        names = Names({"rebinding.example.com": [address]})
        with pytest.raises(PullFailedError, match=f"rebinding.example.com:[0-9]+ {PRIVATE}") as failure:
            await bench.run(
                f"rebinding.example.com:{upstream.host.rpartition(':')[2]}/app:1",
                guard=EgressGuard(),
                resolver=names,
            )
        assert not isinstance(failure.value, UpstreamUnavailableError)
    assert upstream.seen == []
