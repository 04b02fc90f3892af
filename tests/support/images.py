"""Fixture images, made document by document, the same bytes at every run on one machine.

runnable       OCI, three gzip layers around Debian's static busybox; prints `GREETING`
random_layers  OCI, eight gzip layers of incompressible data
updates        OCI, versions of one image that share their largest layer
compressible   OCI, busybox and layers of text, which zstd packs better than gzip did
multi_platform OCI index: linux/amd64 (runnable), linux/arm64 and a BuildKit attestation
docker_schema2 as `runnable`, in Docker's own media types
zstd_only      as `runnable`, its last layer in zstd
"""

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Self

import zstandard

GREETING = "the crisper keeps it fresh"
PROVENANCE = {
    "builder": {"id": "https://ci.example/builds/7"},
    "buildType": "https://mobyproject.org/buildkit@v1",
    "invocation": {"configSource": {"uri": "https://github.com/acme/app.git#refs/heads/main"}},
}
SPDX = {"spdxVersion": "SPDX-2.3", "name": "acme/app", "packages": [{"name": "busybox"}]}
BUSYBOX = Path("/usr/bin/busybox")
MIB = 1 << 20

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(content: bytes) -> str:
    return "sha256:" + sha256(content).hexdigest()


@dataclass(frozen=True)
class Layer:
    """One layer: the tar stream and its gzip form."""

    tar: bytes = field(repr=False)
    gzipped: bytes = field(repr=False)

    @classmethod
    def raw(cls, data: bytes) -> Self:
        """Make a layer of any bytes, which lie at the upstream as they are, whatever its media type says."""
        return cls(data, data)

    @property
    def diff_id(self) -> str:
        return digest_of(self.tar)


@dataclass(frozen=True)
class Image:
    """A manifest or an index with all that it names.

    Attributes:
        name: Repository at the upstream.
        manifest: The document itself; `digest` is over these bytes.
        blobs: Config and layers by digest, those of the children included.
        layers: The layers that a linux/amd64 node pulls.
        children: Manifests of an index, in its order.
    """

    name: str
    media_type: str
    manifest: bytes = field(repr=False)
    blobs: dict[str, bytes] = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    children: tuple["Image", ...] = ()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def digests(self) -> frozenset[str]:
        """Digests under which a linux/amd64 node may know it: its own, and its first child's."""
        return frozenset({self.digest} | {child.digest for child in self.children[:1]})


def layer(files: Sequence[tuple[str, bytes | str, int]]) -> Layer:
    """Build a layer of `(path, content, mode)`; a str as content makes a symlink to it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content, mode in files:
            entry = tarfile.TarInfo(path)
            entry.mode = mode
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    tarred = sink.getvalue()
    return Layer(tarred, gzip.compress(tarred, compresslevel=6, mtime=0))


def build(
    name: str,
    layers: Sequence[Layer],
    *,
    cmd: Sequence[str] = (),
    architecture: str = "amd64",
    variant: str = "",
    docker: bool = False,
) -> Image:
    """Put config and manifest around layers, in OCI's or Docker's media types."""
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            **({"variant": variant} if variant else {}),
            "created": "2024-01-01T00:00:00Z",
            "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": list(cmd), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "fixture"} for _ in layers],
        }
    )
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _descriptor(config, DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [_descriptor(each.gzipped, DOCKER_LAYER if docker else OCI_LAYER) for each in layers],
        }
    )
    blobs = {digest_of(blob): blob for blob in (config, *(each.gzipped for each in layers))}
    return Image(name, media_type, manifest, blobs, tuple(layers))


def with_padding(image: Image, size_bytes: int) -> Image:
    """Return an image whose manifest is larger by an annotation of this size."""
    document = json.loads(image.manifest) | {"annotations": {"padding": "x" * size_bytes}}
    return replace(image, manifest=_json(document))


@cache
def runnable() -> Image:
    return build("acme/runnable", _busybox_layers("runnable"), cmd=["cat /etc/greeting"])


@cache
def docker_schema2() -> Image:
    return build("acme/schema2", _busybox_layers("schema2"), cmd=["cat /etc/greeting"], docker=True)


@cache
def of_2015(name: str = "acme/of-2015") -> Image:
    """Build an image like those that Docker pushed in 2015: its config is `application/octet-stream`."""
    image = build(name, _busybox_layers("of-2015"), cmd=["cat /etc/greeting"], docker=True)
    manifest = json.loads(image.manifest)
    manifest["config"]["mediaType"] = "application/octet-stream"
    return replace(image, manifest=_json(manifest))


@cache
def random_layers(count: int = 8, size_bytes: int = 3 * MIB, name: str = "acme/random") -> Image:
    """Layers that do not compress; distinct `count` and `size_bytes` give distinct images."""
    return build(name, [_noise(f"{count}-{size_bytes}-{n}", size_bytes) for n in range(count)])


@cache
def updates(count: int, name: str = "acme/updated") -> tuple[Image, ...]:
    """Versions of one image: a base layer that all share, and a layer of each version."""
    base = _noise(f"{name} base", 3 * MIB)
    return tuple(build(name, [base, _noise(f"{name} {n}", MIB)]) for n in range(count))


@cache
def compressible() -> Image:
    """Layers that gain by zstd, around one that does not; runnable, as a Docker image."""
    words = [Random(number).randbytes(6).hex() for number in range(400)]
    texts = [" ".join(Random(seed).choices(words, k=200_000)).encode() for seed in "ab"]
    shrinking = [layer([(f"data/text-{number}", text, 0o644)]) for number, text in enumerate(texts)]
    layers = [*_busybox_layers("compressible"), *shrinking, _noise("compressible", MIB)]
    return build("acme/compressible", layers, cmd=["cat /etc/greeting"], docker=True)


@cache
def zstd_only() -> Image:
    """Build an image whose last layer is in zstd, as BuildKit's `compression=zstd` writes it."""
    name, packed = "acme/zstd", _busybox_layers("zstd")
    last = packed[-1].tar
    image = build(name, (*packed[:-1], Layer(last, zstandard.compress(last))), cmd=["cat /etc/greeting"])
    manifest = json.loads(image.manifest)
    manifest["layers"][-1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
    return replace(image, manifest=_json(manifest))


@cache
def uncompressed() -> Image:
    """Build an image whose last layer is a plain tar."""
    name, packed = "acme/tar", _busybox_layers("tar")
    last = packed[-1].tar
    image = build(name, (*packed[:-1], Layer(last, last)), cmd=["cat /etc/greeting"])
    manifest = json.loads(image.manifest)
    manifest["layers"][-1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    return replace(image, manifest=_json(manifest))


@cache
def last_layer_of_type(kind: str) -> Image:
    """Build an image whose last layer has the media type of OCI's layers with another ending."""
    image = build(f"acme/{kind.replace('+', '-')}", [*_busybox_layers(kind), _noise(kind, 1 << 16)])
    manifest = json.loads(image.manifest)
    manifest["layers"][-1]["mediaType"] = f"application/vnd.oci.image.layer.v1.{kind}"
    return replace(image, manifest=_json(manifest))


@cache
def multi_platform() -> Image:
    name = "acme/multi"
    amd64 = build(name, _busybox_layers("multi"), cmd=["cat /etc/greeting"])
    arm64 = build(name, [_noise("arm64", MIB)], architecture="arm64")
    attestation = _attestation(name, amd64)
    entries = [
        {**_descriptor(amd64.manifest, OCI_MANIFEST), "platform": _platform("amd64")},
        {**_descriptor(arm64.manifest, OCI_MANIFEST), "platform": _platform("arm64")},
        {
            **_descriptor(attestation.manifest, OCI_MANIFEST),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": amd64.digest,
            },
        },
    ]
    index = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    children = (amd64, arm64, attestation)
    blobs = {digest: blob for child in children for digest, blob in child.blobs.items()}
    return Image(name, OCI_INDEX, index, blobs, amd64.layers, children)


@cache
def four_platforms() -> Image:
    """Platforms with 3, 2, 4 and 1 layers, of which one is shared, and an attestation."""
    name, shared = "acme/four", layer([("data/shared", " ".join(map(str, range(100_000))).encode(), 0o644)])
    made = {
        "amd64": build(name, [*_busybox_layers("four")[:2], shared], cmd=["ls"]),
        "arm64/v8": build(name, [_noise("arm64", MIB), shared], architecture="arm64"),
        "arm/v7": build(
            name,
            [*(_noise(f"arm-{number}", MIB // 2) for number in range(3)), shared],
            architecture="arm",
            variant="v7",
        ),
        "s390x": build(name, [_noise("s390x", MIB)], architecture="s390x"),
    }
    entries = [
        {**_descriptor(image.manifest, OCI_MANIFEST), "platform": _platform(*platform.split("/"))}
        for platform, image in made.items()
    ]
    attestation = _attestation(name, made["amd64"])
    entries.append(
        {
            **_descriptor(attestation.manifest, OCI_MANIFEST),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        }
    )
    index = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    children = (*made.values(), attestation)
    blobs = {digest: blob for child in children for digest, blob in child.blobs.items()}
    return Image(name, OCI_INDEX, index, blobs, made["amd64"].layers, children)


def _attestation(name: str, subject: Image) -> Image:
    """Build what BuildKit attaches to an image: a manifest whose layers are in-toto statements."""
    predicates = {"https://slsa.dev/provenance/v0.2": PROVENANCE, "https://spdx.dev/Document": SPDX}
    statements = {
        kind: _json(
            {
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": kind,
                "subject": [{"name": name, "digest": {"sha256": subject.digest.removeprefix("sha256:")}}],
                "predicate": predicate,
            }
        )
        for kind, predicate in predicates.items()
    }
    config = _json(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [*map(digest_of, statements.values())]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(config, OCI_CONFIG),
            "layers": [
                {
                    **_descriptor(statement, "application/vnd.in-toto+json"),
                    "annotations": {"in-toto.io/predicate-type": kind},
                }
                for kind, statement in statements.items()
            ],
        }
    )
    blobs = {digest_of(blob): blob for blob in (config, *statements.values())}
    return Image(name, OCI_MANIFEST, manifest, blobs, ())


@cache
def _busybox_layers(name: str) -> tuple[Layer, ...]:
    """Return programs and folders, shared by all images, and one layer of its own."""
    applets = ("sh", "cat", "echo", "ls", "sleep", "true")
    programs = layer(
        [
            ("bin/", b"", 0o755),
            ("bin/busybox", BUSYBOX.read_bytes(), 0o755),
            *((f"bin/{applet}", "busybox", 0o777) for applet in applets),
        ]
    )
    system = layer(
        [
            *((f"{folder}/", b"", 0o755) for folder in ("etc", "dev", "proc", "sys", "root")),
            ("tmp/", b"", 0o1777),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644),
            ("etc/group", b"root:x:0:\n", 0o644),
        ]
    )
    data = layer([("etc/greeting", f"{GREETING}\n".encode(), 0o644), ("etc/image", name.encode(), 0o644)])
    return programs, system, data


def _noise(seed: str, size_bytes: int) -> Layer:
    return layer([(f"data-{seed}.bin", Random(seed).randbytes(size_bytes), 0o644)])


def _platform(architecture: str, variant: str = "") -> dict[str, str]:
    return {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
