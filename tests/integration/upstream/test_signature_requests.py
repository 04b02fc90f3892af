"""What an import asks a registry for an image's signatures, and what a failing one means."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from registry.errors import PullFailedError, UpstreamUnavailableError
from registry.imports.verification import ImageVerifier
from registry.trust.policy import Mode, Policy
from registry.trust.verdict import Verdict
from tests.integration.upstream.conftest import Bench
from tests.support.distribution import (
    OCI_INDEX,
    digest_of,
    serve,
)
from tests.support.signed_images import (
    GOOD,
    IMAGE,
    KEY,
    FixedClock,
    MemoryPolicies,
    bundled,
    by_keys,
    simple,
)
from tests.support.signing import (
    add_simple,
    listed,
    public_pem,
    referrer,
)
from tests.support.upstream_faults import FaultyUpstream, status


@asynccontextmanager
async def serve_all(upstream: FaultyUpstream) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with serve(app) as host:
        yield host


async def imported_from(upstream: FaultyUpstream, bench: Bench, *policies: Policy) -> list[str]:
    """Import an image, and return the paths that were requested before its layer."""
    upstream.add(IMAGE)
    bench.verifier = ImageVerifier(MemoryPolicies(policies), FixedClock())
    await bench.run(f"{upstream.host}/acme/app:1")
    paths = [f"{seen.method} {seen.path.removeprefix('/v2/acme/app/')}" for seen in upstream.seen]
    return paths[: next(place for place, path in enumerate(paths) if digest_of(b"a layer") in path)]


async def test_without_a_policy_for_the_image_there_is_no_further_request(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    policy = by_keys(public_pem(KEY))
    with_other = await imported_from(upstream, bench, replace(policy, pattern="ghcr.io/*"))
    bench.verifier = None
    assert not [path for path in with_other if IMAGE.root.replace(":", "-") in path or "referrers" in path]
    assert len(with_other) == 2  # the manifest, its config


async def test_a_policy_costs_the_requests_for_the_signatures_only(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    found = await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    [payload] = [digest for digest in signature.blobs if signature.blobs[digest] == simple(KEY)[0]]
    assert found[2:] == [f"HEAD manifests/{tag}", f"GET manifests/{tag}", f"GET blobs/{payload}"]


async def test_an_image_without_signatures_costs_three_requests(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    with pytest.raises(PullFailedError, match="no signatures found"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    tag = IMAGE.root.replace(":", "-")
    paths = [seen.path.removeprefix("/v2/acme/app/") for seen in upstream.seen]
    assert paths[2:] == [f"manifests/{tag}.sig", f"referrers/{IMAGE.root}", f"manifests/{tag}"]


async def test_of_a_long_list_of_referrers_without_types_only_32_are_fetched(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    others = [referrer(IMAGE.root_bytes, f"application/vnd.of.{n}", ("text/plain", b"-")) for n in range(100)]
    [index] = listed(IMAGE.root, {}, *others).values()
    upstream.add(index, IMAGE.root.replace(":", "-"))
    with pytest.raises(PullFailedError, match="68 not checked, after the first 32"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    assert sum(upstream.count(other.root) for other in others) == 32


async def imported_with_pages(
    bench: Bench, upstream: FaultyUpstream, link: Callable[[int], str | None]
) -> tuple[Verdict | None, int]:
    """Import from a registry whose referrers API has pages, of which the fourth has the signature.

    Args:
        link: Returns the Link header of a page.

    Returns:
        The verdict, and the number of pages that were requested.
    """
    [index] = bundled(GOOD).values()
    upstream.add(index, "listed")
    upstream.add(IMAGE)
    read_manifest, pages = upstream.handle, 0
    empty = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal pages
        if "/referrers/" not in request.path:
            return await read_manifest(request)
        pages += 1
        page = int(request.query.get("page", "1"))
        listing = index.root_bytes if page == 4 else empty
        headers = {"Link": named} if (named := link(page)) else {}
        return web.Response(body=listing, content_type=OCI_INDEX, headers=headers)

    upstream.handle = handle  # type: ignore[method-assign]
    async with serve_all(upstream) as host:
        policy = by_keys(public_pem(KEY), mode=Mode.WARN)
        bench.verifier = ImageVerifier(MemoryPolicies([policy]), FixedClock())
        verdict = (await bench.run(f"{host}/acme/app:1")).verdict
    return verdict, pages


PATH = f"/v2/acme/app/referrers/{IMAGE.root}"
LINKS: dict[str, tuple[Callable[[int], str | None], bool, int]] = {
    "relative to the page": (lambda page: f'<?page={page + 1}>; rel="next"' if page < 4 else None, True, 4),
    "path": (lambda page: f'<{PATH}?page={page + 1}>; rel="next"' if page < 4 else None, True, 4),
    "endless": (lambda page: f'<{PATH}?page={page + 1}>; rel="next"', True, 8),
    "too far": (lambda page: f'<{PATH}?page={page + 10}>; rel="next"', False, 8),
    "other relation": (lambda page: f'<{PATH}?page={page + 1}>; rel="prev"', False, 1),
    "another list": (
        lambda page: f'</v2/acme/other/referrers/{IMAGE.root}?page={page}>; rel="next"',
        False,
        1,
    ),
    "another host": (lambda page: f'<http://198.51.100.1{PATH}?page={page}>; rel="next"', False, 1),
    "not a link": (lambda _page: '<http://[>; rel="next"', False, 1),
}


@pytest.mark.parametrize(("link", "trusted", "requested"), LINKS.values(), ids=LINKS)
async def test_pages_of_referrers_are_followed_up_to_a_limit(
    bench: Bench,
    upstream: FaultyUpstream,
    link: Callable[[int], str | None],
    *,
    trusted: bool,
    requested: int,
) -> None:
    verdict, pages = await imported_with_pages(bench, upstream, link)
    assert verdict is not None
    assert verdict.trusted is trusted
    assert pages == 2 * requested  # for the verdict, and for the attachments


async def test_a_registry_that_fails_is_no_registry_without_signatures(
    bench: Bench, upstream: FaultyUpstream
) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    upstream.fail(tag, status(503), status(502))
    await imported_from(upstream, bench, by_keys(public_pem(KEY)))
    upstream.always(tag, status(503))
    with pytest.raises(UpstreamUnavailableError, match="answers 503"):
        await bench.run(f"{upstream.host}/acme/app:1")


async def test_a_registry_that_refuses_a_signature_has_none(bench: Bench, upstream: FaultyUpstream) -> None:
    tag = f"{IMAGE.root.replace(':', '-')}.sig"
    [signature] = add_simple(IMAGE.root, simple(KEY)).values()
    upstream.add(signature, tag)
    upstream.always(tag, status(400))
    with pytest.raises(PullFailedError, match="no signatures found"):
        await imported_from(upstream, bench, by_keys(public_pem(KEY)))
