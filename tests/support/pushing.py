"""Pushes over the distribution API (OCI distribution spec, "push"): blobs first, children before parents."""

from collections.abc import Iterable, Mapping
from urllib.parse import urljoin

from tests.support.http import request
from tests.support.images import Image

_TIMEOUT_S = 120


def push_image(host: str, image: Image, tag: str, headers: Mapping[str, str]) -> None:
    """Push every blob and document of an image to the registry at `host`, over plain HTTP."""
    repository = f"http://{host}/v2/{image.name}"
    for digest, content in image.blobs.items():
        push_blob(repository, digest, [content], len(content), headers)
    for child in image.children:
        push_manifest(repository, child.digest, child, headers)
    push_manifest(repository, tag, image, headers)


def push_blob(
    repository: str, digest: str, content: Iterable[bytes], size_bytes: int, headers: Mapping[str, str]
) -> None:
    """Push a blob to the repository at a URL in one request, part by part."""
    start = f"{repository}/blobs/uploads/"
    begun = request("POST", start, headers=headers).expect(202)
    location = urljoin(start, begun.headers["Location"])
    target = f"{location}{'&' if '?' in location else '?'}digest={digest}"
    sent = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
    request("PUT", target, headers=sent, body=content, timeout_s=_TIMEOUT_S).expect(201)


def push_manifest(repository: str, reference: str, image: Image, headers: Mapping[str, str]) -> None:
    """Push a document by tag or digest, and compare the digest that the registry returns."""
    sent = {**headers, "Content-Type": image.media_type}
    url = f"{repository}/manifests/{reference}"
    answer = request("PUT", url, headers=sent, body=image.manifest).expect(201)
    if answer.headers["Docker-Content-Digest"] != image.digest:
        raise AssertionError("the upstream counts another digest than the fixture")
