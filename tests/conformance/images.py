"""What the suite has pushed to the upstream, and what of it one platform's import holds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.conformance.suite import REPOSITORY
from tests.support.http import request
from tests.support.images import OCI_INDEX, OCI_MANIFEST

# Tags of the suite's images that a container runtime could run; its artifacts are no images, and its
# other indexes are empty. `image` has artifacts that refer to it.
IMAGES = (
    "image",
    "image-uncompressed",
    "large-manifest",
    "index-of-index",
    "data-field",
    "custom-fields",
    "no-layers",
)
SUBJECT = "image"
REFERRERS = ("tagged-artifact1", "tagged-artifact2")


@dataclass(frozen=True)
class Stored:
    """Digests of an image's documents, from the root down, and of its blobs; with what is attached to it."""

    documents: tuple[str, ...]
    blobs: tuple[str, ...]


def stored(host: str, tag: str) -> Stored:
    """Follow a tag at the upstream as an import for linux/amd64 does."""
    documents = list(_documents(host, tag))
    manifests = [documents[-1][1]]
    if tag == SUBJECT:
        for artifact in REFERRERS:
            documents += _documents(host, artifact)
            manifests.append(documents[-1][1])
    described = [each for manifest in manifests for each in (manifest["config"], *manifest["layers"])]
    return Stored(
        tuple(digest for digest, _ in documents), tuple(dict.fromkeys(each["digest"] for each in described))
    )


def attach_referrers(host: str) -> None:
    """Push the list of referrers of `image`, as clients do where the registry keeps none.

    See the distribution-spec, "Referrers Tag Schema".
    """
    subject = _get(host, SUBJECT)[0]
    entries = []
    for tag in REFERRERS:
        digest, size, document = _get(host, tag)
        if document["subject"]["digest"] != subject:
            raise AssertionError(f"{tag} does not refer to the image")
        entries.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": digest,
                "size": size,
                "artifactType": document["artifactType"],
                "annotations": document["annotations"],
            }
        )
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    request(
        "PUT",
        _url(host, subject.replace(":", "-")),
        headers={"Content-Type": OCI_INDEX},
        body=index,
    ).expect(201)


def _documents(host: str, reference: str) -> Iterator[tuple[str, dict[str, Any]]]:
    digest, _, document = _get(host, reference)
    yield digest, document
    for entry in document.get("manifests", ()):
        if entry.get("platform", {"architecture": "amd64"})["architecture"] == "amd64":
            yield from _documents(host, entry["digest"])
            return


def _get(host: str, reference: str) -> tuple[str, int, dict[str, Any]]:
    accept = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
    answer = request("GET", _url(host, reference), headers=accept).expect(200)
    return answer.headers["Docker-Content-Digest"], len(answer.body), answer.json()


def _url(host: str, reference: str) -> str:
    return f"http://{host}/v2/{REPOSITORY}/manifests/{reference}"
