"""Manifests, indexes and configs, old, odd or ambiguous.

distribution/distribution#1621, moby/moby#22378 and #30083 (types of configs), containers/image#1003,
google/go-containerregistry#1368, GHSA-77vh-xpmg-72qh (ambiguous documents), moby/moby#41127 (platforms).
"""

import json

from tests.support.distribution import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    descriptor,
    make_image,
)
from tests.support.quirks.row import IMAGE, LAYER, Arrange, Quirk, document, fields_of
from tests.support.quirky_upstream import QuirkyUpstream

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
CANNOT = r".*/app:1 cannot be imported: "
AMBIGUOUS = "ambiguous documents are refused, so that no two clients read them differently"


def config_of(kind: str, image: str = "docker") -> dict[str, object]:
    """Return a manifest's fields whose config has a media type; `...` for none."""
    config = dict(fields_of(image)["config"])  # type: ignore[call-overload]
    if kind == "...":
        del config["mediaType"]
    else:
        config["mediaType"] = kind
    return fields_of(image, config=config)


def of_platforms(
    *names: str, configs: tuple[str, ...] = (), kind: str = OCI_INDEX, **changes: object
) -> Arrange:
    """Serve an index over images of architectures; an empty name is an entry without a platform."""

    def arrange(upstream: QuirkyUpstream) -> None:
        entries = []
        for number, name in enumerate(names):
            architecture = configs[number] if configs else name.split("/")[1]
            image = make_image([LAYER], architecture=architecture, salt=str(number))
            upstream.add(image)
            platform = dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))
            more = {"platform": platform} if name else {}
            entries.append(descriptor(OCI_MANIFEST, image.root_bytes, **more))
        fields = {"schemaVersion": 2, "mediaType": kind, "manifests": entries} | changes
        upstream.tag(json.dumps({k: v for k, v in fields.items() if v is not ...}).encode(), kind)

    return arrange


def raw(text: bytes) -> bytes:
    """Return the manifest with a text put at its beginning."""
    return b"{" + text + b", " + IMAGE.root_bytes[1:]


def layers(*entries: object) -> dict[str, object]:
    return fields_of(layers=list(entries))


OLD_CONFIGS = [
    Quirk(f"a config of type {kind or 'nothing'} in {image}", document(config_of(kind, image), manifest))
    for kind in ("application/octet-stream", "text/html", "application/json", "", "...")
    for image, manifest in (("docker", DOCKER_MANIFEST), ("oci", OCI_MANIFEST))
]
CONTENT_TYPES = [
    *(
        Quirk(f"Content-Type {kind!r} of an {what}", document(fields, kind))
        for kind in (
            None,
            "",
            "application/json",
            "application/json; charset=utf-8",
            "application/octet-stream",
            "binary/octet-stream",
            "text/plain; charset=utf-8",
        )
        for what, fields in (("OCI manifest", fields_of()), ("untyped manifest", fields_of(mediaType=...)))
    ),
    Quirk("Content-Type with a charset", document(fields_of(), f"{OCI_MANIFEST}; charset=utf-8")),
    Quirk("Content-Type in capitals", document(fields_of(), OCI_MANIFEST.upper())),
    Quirk("Content-Type with blanks", document(fields_of(), f"{OCI_MANIFEST} ;charset=UTF-8")),
    Quirk("an untyped manifest of Docker's", document(fields_of("docker", mediaType=...), DOCKER_MANIFEST)),
    Quirk("an empty mediaType", document(fields_of(mediaType=""), OCI_MANIFEST)),
    Quirk("an empty mediaType of Docker's", document(fields_of("docker", mediaType=""), DOCKER_MANIFEST)),
    Quirk("an empty mediaType without Content-Type", document(fields_of(mediaType=""), None)),
    Quirk("a mediaType of null", document(fields_of(mediaType=None), OCI_MANIFEST)),
    Quirk(
        "an index as application/json",
        of_platforms("linux/amd64", kind="application/json", mediaType=OCI_INDEX),
    ),
    Quirk("an untyped index as text", of_platforms("linux/amd64", kind="text/plain", mediaType=...)),
]
CONTRADICTIONS = [
    Quirk(name, arrange, CANNOT + fails, policy=policy)
    for name, arrange, fails, policy in (
        (
            "an OCI manifest called Docker's",
            document(fields_of(), DOCKER_MANIFEST),
            "the manifest's mediaType and its Content-Type do not agree",
            AMBIGUOUS,
        ),
        (
            "Docker's manifest called OCI's",
            document(fields_of("docker"), OCI_MANIFEST),
            "the manifest's mediaType and its Content-Type do not agree",
            AMBIGUOUS,
        ),
        (
            "a manifest called an index",
            document(fields_of(), OCI_INDEX),
            "the manifest's mediaType and its Content-Type do not agree",
            "",
        ),
        (
            "an index called a manifest",
            of_platforms("linux/amd64", kind=OCI_INDEX, mediaType=OCI_MANIFEST),
            "the manifest's mediaType and its Content-Type do not agree",
            AMBIGUOUS,
        ),
        (
            "a manifest called HTML",
            document(fields_of(), "text/html"),
            "the manifest's mediaType and its Content-Type do not agree",
            AMBIGUOUS,
        ),
        (
            "manifests beside layers",
            document(fields_of(manifests=[]), OCI_MANIFEST),
            "the manifest has both manifests and layers",
            AMBIGUOUS,
        ),
        (
            "manifests of null beside layers",
            document(fields_of(manifests=None), OCI_MANIFEST),
            "the manifest has both manifests and layers",
            AMBIGUOUS,
        ),
        (
            "a config in an index",
            of_platforms("linux/amd64", config=descriptor(OCI_CONFIG, b"{}")),
            "the manifest has both manifests and layers",
            AMBIGUOUS,
        ),
        (
            "a key twice",
            document(raw(b'"schemaVersion": 2'), OCI_MANIFEST),
            "the manifest is not valid JSON",
            AMBIGUOUS,
        ),
        (
            "a number that is none",
            document(raw(b'"x": NaN'), OCI_MANIFEST),
            "the manifest is not valid JSON",
            "",
        ),
        (
            "a byte order mark",
            document(b"\xef\xbb\xbf" + IMAGE.root_bytes, OCI_MANIFEST),
            "the manifest is not valid JSON",
            "",
        ),
        (
            "a login page",
            document(b"<html>Sign in</html>", "text/html"),
            "the manifest is not valid JSON",
            "",
        ),
        ("a list", document(b"[]", OCI_MANIFEST), "the manifest is not a JSON object", ""),
        ("nothing", document(b"", OCI_MANIFEST), "the manifest is not valid JSON", ""),
        (
            "no schemaVersion",
            document(fields_of(schemaVersion=...), OCI_MANIFEST),
            "the manifest's schemaVersion is not 2",
            "every specification requires it",
        ),
        (
            "schemaVersion as text",
            document(fields_of(schemaVersion="2"), OCI_MANIFEST),
            "the manifest's schemaVersion is not 2",
            "",
        ),
        (
            "schema 1",
            document({"schemaVersion": 1, "fsLayers": [], "history": []}, SCHEMA_1),
            "the manifest is Docker schema 1.*",
            "",
        ),
        (
            "schema 1 as JSON",
            document({"schemaVersion": 1, "fsLayers": []}, "application/json"),
            "the manifest is Docker schema 1.*",
            "",
        ),
    )
]
LAYERS = [
    Quirk("layers of null", document(fields_of(layers=None), OCI_MANIFEST)),
    Quirk("layers of null in Docker's", document(fields_of("docker", layers=None), DOCKER_MANIFEST)),
    Quirk("no layers", document(layers(), OCI_MANIFEST)),
    Quirk(
        "artifactType beside an image", document(fields_of(artifactType="application/vnd.x"), OCI_MANIFEST)
    ),
    Quirk("an empty artifactType", document(fields_of(artifactType=""), OCI_MANIFEST)),
    Quirk("a subject", document(fields_of(subject=descriptor(OCI_MANIFEST, b"x")), OCI_MANIFEST)),
    Quirk("annotations of null", document(fields_of(annotations=None), OCI_MANIFEST)),
    Quirk("unknown fields", document(fields_of(x={"a": [1, None]}), OCI_MANIFEST)),
    Quirk(
        "Docker's layer in OCI's manifest", document(layers(descriptor(DOCKER_LAYER, LAYER)), OCI_MANIFEST)
    ),
    Quirk("a layer twice", document(layers(*[descriptor(OCI_LAYER, LAYER)] * 2), OCI_MANIFEST)),
    Quirk(
        "a layer that is no file system",
        document(layers(descriptor("application/vnd.x", LAYER)), OCI_MANIFEST),
        CANNOT + "this is an OCI artifact, whose layers are no file systems",
        policy="no runtime unpacks it",
    ),
    Quirk(
        "a chart",
        document(config_of("application/vnd.cncf.helm.config.v1+json", "oci"), OCI_MANIFEST),
        CANNOT + "this is an OCI artifact, not a container image",
        policy="it is no image",
    ),
    Quirk(
        "an empty config",
        document(config_of("application/vnd.oci.empty.v1+json", "oci"), OCI_MANIFEST),
        CANNOT + "this is an OCI artifact, not a container image",
        policy="it is no image",
    ),
    Quirk(
        "a config of octets without layers",
        document({**config_of("application/octet-stream", "oci"), "layers": []}, OCI_MANIFEST),
        CANNOT + "this is an OCI artifact, not a container image",
        policy="nothing shows that it is an image",
    ),
    Quirk(
        "no config",
        document(fields_of(config=...), OCI_MANIFEST),
        CANNOT + "the manifest has no valid descriptor in config",
        policy="no runtime runs it",
    ),
    Quirk(
        "two sizes of a layer",
        document(
            layers(descriptor(OCI_LAYER, LAYER), {**descriptor(OCI_LAYER, LAYER), "size": 1}), OCI_MANIFEST
        ),
        CANNOT + "the manifest has two sizes for one digest",
        policy=AMBIGUOUS,
    ),
    Quirk(
        "a size as text",
        document(layers({**descriptor(OCI_LAYER, LAYER), "size": "3000"}), OCI_MANIFEST),
        CANNOT + "a descriptor in layers has no valid size",
    ),
    Quirk(
        "a digest of another kind",
        document(layers({**descriptor(OCI_LAYER, LAYER), "digest": "md5:" + "a" * 32}), OCI_MANIFEST),
        CANNOT + "a descriptor in layers has no valid digest",
    ),
]


def single(architecture: str) -> Arrange:
    return lambda upstream: upstream.add(make_image([LAYER], architecture=architecture))


PLATFORMS = [
    Quirk("amd64 after 386", of_platforms("linux/386", "linux/amd64")),
    Quirk("386 and nothing better", of_platforms("linux/arm64", "linux/386")),
    Quirk("an image for 386", single("386")),
    Quirk("386 before a nameless amd64", of_platforms("linux/386", "", configs=("386", "amd64"))),
    Quirk("nameless 386 before nameless amd64", of_platforms("", "", configs=("386", "amd64"))),
    Quirk("amd64/v1", of_platforms("linux/arm64", "linux/amd64/v1")),
    Quirk("x86_64", of_platforms("linux/arm64", "linux/x86_64", configs=("arm64", "amd64"))),
    Quirk(
        "an attestation before the image",
        of_platforms("unknown/unknown", "linux/amd64", configs=("", "amd64")),
    ),
    Quirk("Docker's list of OCI's manifests", of_platforms("linux/amd64", kind=DOCKER_LIST)),
    Quirk(
        "an index with layers of null",
        of_platforms("linux/amd64", layers=None),
        CANNOT + "the manifest has both manifests and layers",
        policy=AMBIGUOUS,
    ),
    Quirk("only arm64", of_platforms("linux/arm64"), ".* has no image for linux/amd64.*"),
    Quirk("an empty index", of_platforms(), ".* has no image for linux/amd64.*"),
    Quirk(
        "an image for arm64",
        single("arm64"),
        ".* has no image for linux/amd64.*",
        policy="nodes cannot run it",
    ),
    Quirk(
        "an image for AMD64",
        single("AMD64"),
        CANNOT + "the image's config has no known architecture.*",
        policy="dockerd 20.10 does not start again with it",
    ),
    Quirk("an image without a platform", single("")),
]

QUIRKS = [*OLD_CONFIGS, *CONTENT_TYPES, *CONTRADICTIONS, *LAYERS, *PLATFORMS]
