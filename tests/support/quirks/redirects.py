"""Registries that lead to another origin: vanity domains, CDNs, and paths that moved.

containerd/containerd#5503 (a CDN before Docker Hub), kubernetes/registry.k8s.io (redirects to registries of a
region).
"""

from aiohttp import web

from tests.support.distribution import digest_of
from tests.support.quirks.row import (
    AUTHENTICATE,
    HOST,
    IMAGE,
    LAYER,
    Arrange,
    Quirk,
    answering,
    guarded,
    status,
)
from tests.support.quirky_upstream import Answer, QuirkyUpstream

OTHER = rf"{HOST} redirects to {HOST}, which does not allow anonymous access: .*"


def leading(code: int, prefix: str = "") -> Answer:
    """Redirect every path to the other registry."""

    async def answer(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/token"):
            return None
        to = f"{upstream.scheme}://{upstream.other.host}{request.path.replace('/v2/', f'/v2/{prefix}')}"
        return await upstream.send(request, web.Response(status=code, headers={"Location": to}))

    return answer


def vanity(requires: str, *challenges: str, code: int = 307, prefix: str = "", **settings: object) -> Arrange:
    """Give a domain to the other registry, whose paths begin with a prefix."""

    def arrange(upstream: QuirkyUpstream) -> None:
        guarded(requires, *challenges, **settings)(upstream.other)
        upstream.documents, upstream.blobs = upstream.other.documents, upstream.other.blobs
        upstream.answers["*"] = leading(code, prefix)

    return arrange


def cdn(requires: str = "", *, code: int = 307, **settings: object) -> Arrange:
    """Redirect blobs to the other server."""

    def arrange(upstream: QuirkyUpstream) -> None:
        guarded("basic")(upstream)
        guarded(requires, **settings)(upstream.other)
        upstream.answers[digest_of(LAYER)] = leading(code)

    return arrange


async def lapsed_once(upstream: QuirkyUpstream, _request: web.Request) -> web.StreamResponse | None:
    upstream.used[lapsed_once] += 1
    return web.Response(status=401) if upstream.used[lapsed_once] == 1 else None


TOKEN = 'Bearer realm="{scheme}://{host}/token",service="s",scope="repository:real/app:pull"'
VANITY = [
    *(Quirk(f"a vanity domain, with {code}", vanity("", code=code)) for code in (301, 302, 303, 307, 308)),
    Quirk(
        "a vanity domain of a registry with anonymous tokens",
        vanity("bearer", TOKEN, prefix="real/", admits_anonymous_tokens=True),
    ),
    Quirk(
        "the same with credentials",
        vanity("bearer", TOKEN, prefix="real/", admits_anonymous_tokens=True),
        login=True,
    ),
    Quirk("a vanity domain of a private registry", vanity("bearer", TOKEN), OTHER, AUTHENTICATE),
    Quirk("the same with the domain's credentials", vanity("bearer", TOKEN), OTHER, AUTHENTICATE, login=True),
    Quirk("a vanity domain of a registry with Basic", vanity("basic"), OTHER, AUTHENTICATE, login=True),
    Quirk("a vanity domain of a registry with Negotiate", vanity("basic", "Negotiate"), OTHER, AUTHENTICATE),
    Quirk(
        "a vanity domain whose tokens are refused",
        vanity(
            "bearer", TOKEN, admits_anonymous_tokens=True, answers={"1": status(401, WWW_Authenticate=TOKEN)}
        ),
        OTHER,
        AUTHENTICATE,
    ),
    Quirk(
        "a vanity domain whose registry forbids",
        vanity("", answers={"1": status(403)}),
        OTHER,
        AUTHENTICATE,
        login=True,
    ),
    Quirk(
        "a vanity domain without the image",
        vanity("", answers={"1": status(404)}),
        rf"{HOST} has no image .*/app:1: check its spelling.*",
        login=True,
    ),
    Quirk("a vanity domain with TLS", vanity("bearer", TOKEN, admits_anonymous_tokens=True), tls=True),
]
CDN = [
    *(
        Quirk(f"layers at a CDN, with {code}", cdn(code=code), login=True)
        for code in (301, 302, 303, 307, 308)
    ),
    Quirk("layers at a CDN with TLS", cdn(), login=True, tls=True),
    Quirk("a signed URL that has expired with 403", cdn(answers={"*": status(403, times=1)}), login=True),
    Quirk("a signed URL that has expired with 401", cdn(answers={"*": lapsed_once}), login=True),
    Quirk(
        "layers at a CDN that asks for anonymous tokens",
        cdn("bearer", admits_anonymous_tokens=True),
        login=True,
    ),
]
OWN = [
    Quirk(
        f"the image under another path, {name}",
        answering("basic", tag=status(code, Location=location)),
        login=True,
    )
    for name, code, location in (
        ("relative", 302, f"/v2/app/manifests/{IMAGE.root}"),
        ("absolute", 307, "{scheme}://{host}/v2/app/manifests/" + IMAGE.root),
        ("below", 308, f"../manifests/{IMAGE.root}"),
        ("with two slashes", 301, f"/v2//app/manifests/{IMAGE.root}"),
        ("without a scheme", 302, "//{host}/v2/app/manifests/" + IMAGE.root),
        ("with a fragment", 302, f"/v2/app/manifests/{IMAGE.root}#top"),
    )
] + [
    Quirk(
        "a loop",
        answering(tag=status(302, Location="/v2/app/manifests/1")),
        rf"{HOST} redirects too often",
        policy="redirects are limited",
    ),
    Quirk(
        "from TLS to plain HTTP",
        answering(tag=status(302, Location="http://{plain}/v2/app/manifests/1")),
        r"the registry leads to \S+, which is not allowed \(a URL at \S+ does not use TLS\)",
        tls=True,
        policy="images are not fetched without TLS unless the operator allows it",
    ),
    Quirk(
        "to no URL",
        answering(tag=status(302, Location="http://[x")),
        rf"{HOST} redirects to an invalid URL \(the URL is not valid\)",
    ),
    Quirk("without a Location", answering(tag=status(302)), rf"{HOST} answers 302 for .*"),
    Quirk(
        "300 with a Location",
        answering(tag=status(300, Location="/")),
        rf"{HOST} answers 300 for .*",
    ),
]

QUIRKS = [*VANITY, *CDN, *OWN]
