"""Tags that move while an image is imported, and images whose parts are gone."""

import json

from aiohttp import web

from tests.support.distribution import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, make_image
from tests.support.quirks.row import IMAGE, LAYER, Arrange, Quirk
from tests.support.quirky_upstream import QuirkyUpstream

OLD_LAYER = LAYER[::-1]
OLD = make_image([OLD_LAYER], salt="old")
LACKS = r"127\.0\.0\.1:\d+ lacks {} sha256:\w+, a part of .*/app:1: push the image again, and check that .*"


def index_over(root: bytes) -> bytes:
    platform = {"os": "linux", "architecture": "amd64"}
    entry = descriptor(OCI_MANIFEST, root, platform=platform)
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()


def moving(
    gone: str, *, indexed: bool = True, moves: bool = True, tag: str = "1", repeats: bool = False
) -> Arrange:
    """Remove the old image's `child`, `config` or `layer`, after which the tag names the new image."""
    lost = {"child": OLD.root, "layer": digest_of(OLD_LAYER)}
    lost["config"] = next(digest for digest in OLD.blobs if digest != lost["layer"])

    def arrange(upstream: QuirkyUpstream) -> None:
        for image in (IMAGE, OLD):
            upstream.add(image, "unused")
        documents = {name: index_over(image.root_bytes) for name, image in (("new", IMAGE), ("old", OLD))}
        if not indexed:
            documents = {"new": IMAGE.root_bytes, "old": OLD.root_bytes}
        kind = OCI_INDEX if indexed else OCI_MANIFEST
        upstream.tag(documents["new"], kind, "2")
        upstream.tag(documents["old"], kind, tag)
        upstream.documents["1"] = upstream.documents[tag]

        async def remove(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse:
            if moves:
                upstream.documents["1"] = upstream.documents["2"]
            return await upstream.send(request, web.Response(status=404))

        upstream.answers[lost[gone]] = remove
        if repeats:
            upstream.answers[IMAGE.root if gone == "child" else digest_of(LAYER)] = remove

    return arrange


QUIRKS = [
    Quirk("a tag moves, and the manifest is gone", moving("child")),
    Quirk("a tag moves, and the config is gone", moving("config")),
    Quirk("a tag moves, and a layer is gone", moving("layer")),
    Quirk("a tag of a manifest moves, and the config is gone", moving("config", indexed=False)),
    Quirk("a tag of a manifest moves, and a layer is gone", moving("layer", indexed=False)),
    Quirk("the manifest of an index is gone", moving("child", moves=False), LACKS.format("manifest")),
    Quirk("a config is gone", moving("config", moves=False), LACKS.format("blob")),
    Quirk("a layer is gone", moving("layer", moves=False), LACKS.format("blob")),
    Quirk(
        "a tag moves twice, and both manifests are gone",
        moving("child", repeats=True),
        LACKS.format("manifest"),
    ),
    Quirk("a tag moves twice, and both layers are gone", moving("layer", repeats=True), LACKS.format("blob")),
]
