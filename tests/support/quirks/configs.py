"""Configs and layer descriptors of images, with fields of odd types and values.

moby/moby#41683, #27568, #47729 and #48241, containerd/containerd#3583 and #5154, containers/podman#21094,
opencontainers/umoci#676, google/go-containerregistry#2192. Each row was tried with Docker 20.10 and 29 (both
image stores), containerd 1.6 and Podman 4.3: pulled, and a container started (with Podman, created).
An image fails if all of them refuse it, or if it crashes one.
"""

import json
from collections.abc import Mapping

from tests.support.distribution import OCI_LAYER, OCI_MANIFEST, descriptor, digest_of, make_image
from tests.support.quirks.row import LAYER, Arrange, Quirk
from tests.support.quirky_upstream import QuirkyUpstream

CANNOT = r".*/app:1 cannot be imported: "
NOWHERE = "no runtime starts it"
CRASHES = "dockerd 20.10 crashes at the pull, and does not start again"
TIME = "2024-01-01T00:00:00Z"
DIFF_IDS = [digest_of(LAYER)]
HISTORY = {"created": TIME, "created_by": "RUN make"}


def image(
    text: bytes | None = None, manifest: Mapping[str, object] | None = None, **changes: object
) -> Arrange:
    """Serve an image whose config, or the first layer's descriptor, is changed; `...` removes a field."""

    def arrange(upstream: QuirkyUpstream) -> None:
        made = make_image([LAYER])
        fields = json.loads(made.root_bytes)
        base = json.loads(made.blobs[fields["config"]["digest"]])
        changed = {name: value for name, value in (base | changes).items() if value is not ...}
        config = json.dumps(changed).encode() if text is None else text
        fields["config"] |= {"digest": digest_of(config), "size": len(config)}
        upstream.blobs |= {digest_of(LAYER): LAYER, digest_of(config): config, digest_of(b""): b""}
        upstream.tag(json.dumps({**fields, **(manifest or {})}).encode(), OCI_MANIFEST)

    return arrange


def runs(**changes: object) -> Arrange:
    """Change the fields of `config`."""
    return image(config=changes)


def rootfs(**fields: object) -> Arrange:
    return image(rootfs={"type": "layers", "diff_ids": DIFF_IDS} | fields)


def past(**fields: object) -> Arrange:
    return image(history=[HISTORY | fields])


def layer(**fields: object) -> Arrange:
    return image(manifest={"layers": [{**descriptor(OCI_LAYER, LAYER), **fields}]})


def also(text: str) -> bytes:
    """Return a config with more text at its end."""
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": DIFF_IDS}}
    return json.dumps(config)[:-1].encode() + f", {text}}}".encode()


TAKEN = [
    Quirk(name, arrange)
    for name, arrange in (
        ("a config without config", image(config=...)),
        ("a config of null in a config", image(config=None)),
        ("an environment of null", runs(Env=None)),
        ("variables without a value, and empty ones", runs(Env=["PATH", "", "A=", None])),
        ("no command", runs(Cmd=None, Entrypoint=None)),
        ("a command as text", runs(Cmd="/bin/sh", Entrypoint="/bin/sh")),
        ("ports of no protocol or number", runs(ExposedPorts={"": {}, "a/b": {}, "99999/tcp": None})),
        ("volumes of odd paths", runs(Volumes={"/": {}, "a": {}, "": None})),
        ("labels of null", runs(Labels={"a": None})),
        ("labels that differ in capitals", runs(Labels={"a": "1", "A": "2"})),
        ("an unknown user, signal and folder", runs(User="nobody", StopSignal="SIGFOO", WorkingDir="a/../b")),
        ("a health check that Docker refuses", runs(Healthcheck={"Test": "true", "Interval": "30s"})),
        ("a health check of negative time", runs(Healthcheck={"Test": ["CMD"], "Interval": -1})),
        ("triggers of a build", runs(OnBuild=["RUN true"])),
        ("fields of Docker alone", image(docker_version=5, container_config=[], Size="x", parent="x")),
        ("fields in other capitals", image(also('"Config": {"ENV": ["A=1"]}'))),
        ("unknown fields in different capitals", image(also('"x": 1, "X": 2'))),
        ("no rootfs", image(rootfs=...)),
        ("a rootfs of null", image(rootfs=None)),
        ("another type of rootfs", rootfs(type="layers+base")),
        ("no diff ids", rootfs(diff_ids=None)),
        ("no history", image(history=...)),
        ("a history of null", image(history=None)),
        ("a history of nulls", image(history=[None])),
        ("a shorter history", image(history=[])),
        ("a longer history", image(history=[HISTORY] * 3)),
        ("a history of empty layers", past(empty_layer=True)),
        ("a history without times", past(created=None)),
        ("no time of creation", image(created=...)),
        ("a time of null", image(created=None)),
        ("a time in the year 0", image(created="0000-02-29T23:59:59.123456789+14:00")),
        ("a lone surrogate", image(also(r'"comment": "\ud800"'))),
        ("a line break at the end of a config", image(also('"comment": ""') + b"\n")),
        ("a layer with addresses", layer(urls=["https://example.com/x"])),
        ("annotations and addresses of null", layer(urls=None, annotations=None)),
        ("a layer with data that is not its own", layer(data="aGVsbG8=")),
        ("a layer of no bytes", image(manifest={"layers": [descriptor(OCI_LAYER, b"")]})),
        ("an odd subject", image(manifest={"subject": "x", "artifactType": ""})),
    )
]
WRONG_CONFIGS = [
    Quirk(
        f"a config whose {field} is {what}",
        arrange,
        f"{CANNOT}the image's config has no valid {field}",
        policy=NOWHERE,
    )
    for field, what, arrange in (
        ("os", "a number", image(os=1)),
        ("os.version", "a number", image(also('"os.version": 5'))),
        ("os.features", "text", image(also('"os.features": "x"'))),
        ("author", "a number", image(author=5)),
        ("config", "a list", image(config=[])),
        ("config", "text", image(config="x")),
        ("config.Env", "text", runs(Env="A=b")),
        ("config.Env", "an object", runs(Env={"A": "b"})),
        ("config.Env", "numbers", runs(Env=[1])),
        ("config.Env", "without names", runs(Env=["PATH=/bin", "=x"])),
        ("config.Env", "with NUL", runs(Env=["A=\0"])),
        ("config.Cmd", "numbers", runs(Cmd=[1])),
        ("config.Entrypoint", "numbers", runs(Entrypoint=[1])),
        ("config.ExposedPorts", "a list", runs(ExposedPorts=["80/tcp"])),
        ("config.ExposedPorts", "text", runs(ExposedPorts={"80/tcp": "x"})),
        ("config.Volumes", "a list", runs(Volumes=["/a"])),
        ("config.Labels", "a list", runs(Labels=[])),
        ("config.Labels", "numbers", runs(Labels={"a": 1})),
        ("config.User", "a number", runs(User=0)),
        ("config.WorkingDir", "a number", runs(WorkingDir=1)),
        ("config.StopSignal", "a number", runs(StopSignal=9)),
        ("config.ArgsEscaped", "text", runs(ArgsEscaped="x")),
        ("rootfs", "a list", image(rootfs=[])),
        ("rootfs.type", "a number", rootfs(type=1)),
        ("rootfs.diff_ids", "an object", rootfs(diff_ids={})),
        ("history", "an object", image(history={})),
        ("history", "texts", image(history=["x"])),
        ("history.created", "a word", past(created="yesterday")),
        ("history.created", "empty", past(created="")),
        ("history.empty_layer", "text", past(empty_layer="no")),
        ("created", "a word", image(created="yesterday")),
        ("created", "empty", image(created="")),
        ("created", "a number", image(created=5)),
        ("created", "in the year 10000", image(created="10000-01-01T00:00:00Z")),
        ("created", "without a zone", image(created="2024-01-01T00:00:00")),
        ("created", "with a blank", image(created="2024-01-01 00:00:00Z")),
        ("created", "in small letters", image(created="2024-01-01t00:00:00z")),
        ("created", "on 30 February", image(created="2024-02-30T00:00:00Z")),
    )
]
OTHER_CAPITALS = [
    Quirk(name, image(text, manifest), CANNOT + fails, policy=policy)
    for name, text, manifest, fails, policy in (
        ("OS beside os", also('"OS": "Linux"'), None, "the image's config has the field OS twice.*", CRASHES),
        (
            "an os of long s",
            also('"o\u017f": "Linux"'),
            None,
            "the image's config has the field o\u017f twice.*",
            CRASHES,
        ),
        (
            "RootFS beside rootfs",
            also('"RootFS": {}'),
            None,
            "the image's config has the field RootFS twice.*",
            NOWHERE,
        ),
        (
            "env beside Env",
            also('"config": {"Env": [], "env": []}'),
            None,
            "the image's config has the field config.env twice.*",
            NOWHERE,
        ),
        (
            "OS alone",
            b'{"OS": "Linux", "architecture": "amd64"}',
            None,
            "the image's config has no known os.*",
            CRASHES,
        ),
        ("os twice", also('"os": "Linux"'), None, "the image's config is not valid JSON", CRASHES),
        (
            "Layers beside layers",
            None,
            {"Layers": []},
            "the manifest has a field with the name layers in other capitals",
            NOWHERE,
        ),
        (
            "MediaType beside mediaType",
            None,
            {"MediaType": "x"},
            "the manifest has a field with the name mediaType in other.*",
            NOWHERE,
        ),
        (
            "SchemaVersion beside schemaVersion",
            None,
            {"SchemaVersion": 1},
            "the manifest has a field with the name schemaVersion.*",
            "clients read different versions",
        ),
    )
]
WRONG_DOCUMENTS = [
    Quirk(f"a config of {name}", image(text), CANNOT + fails, policy=NOWHERE)
    for name, text, fails in (
        ("two objects", also('"a": 1') + b" {}", "the image's config is not valid JSON"),
        ("a byte order mark", b"\xef\xbb\xbf" + also('"a": 1'), "the image's config is not valid JSON"),
        ("a list", b"[]", "the image's config is not a JSON object"),
        ("deep lists", also(f'"x": {"[" * 20_000}{"]" * 20_000}'), "the image's config is not valid JSON"),
    )
]
WRONG_LAYERS = [
    Quirk(name, arrange, CANNOT + fails, policy=policy)
    for name, arrange, fails, policy in (
        ("addresses as text", layer(urls="x"), "a descriptor in layers has no valid annotations or urls", ""),
        (
            "a list of annotations",
            layer(annotations=[]),
            "a descriptor in layers has no valid annotations or urls",
            "",
        ),
        (
            "numbers as annotations",
            layer(annotations={"a": 1}),
            "a descriptor in layers has no valid annotations or urls",
            "",
        ),
        ("a platform as text", layer(platform="linux"), "a platform is not an object", ""),
        (
            "a size with a fraction",
            layer(size=float(len(LAYER))),
            "a descriptor in layers has no valid size",
            "",
        ),
        (
            "a layer's digest in capitals",
            layer(digest=digest_of(LAYER).upper()),
            "a descriptor in layers has no valid digest",
            "",
        ),
        (
            "Digest beside digest",
            layer(Digest=digest_of(b"clients fetch different layers")),
            "a descriptor in layers has a field with the name digest.*",
            "",
        ),
        (
            "a list of a manifest's annotations",
            image(manifest={"annotations": []}),
            "the manifest's annotations are not a map of strings",
            "",
        ),
    )
]

QUIRKS = [*TAKEN, *WRONG_CONFIGS, *OTHER_CAPITALS, *WRONG_DOCUMENTS, *WRONG_LAYERS]
