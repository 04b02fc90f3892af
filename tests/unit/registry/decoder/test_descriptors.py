import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.decoder.descriptors import (
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    EncryptedLayer,
    find_layers,
    parse_layer,
)
from registry.errors import DecoderError

HEAD = hashlib.sha256(b"head").digest()
NOTHING: Mapping[str, str] = {}
OPTIONS = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": b64encode(bytes(32)).decode(), "cipheroptions": {}}


def descriptor(name: str = "layer", head: bytes = HEAD, more: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    annotations = {
        "org.opencontainers.image.enc.keys.jwe": b64encode(name.encode()).decode(),
        "org.opencontainers.image.enc.pubopts": b64encode(json.dumps(OPTIONS).encode()).decode(),
        "vnd.crisper.head": head.hex(),
    }
    return {"digest": name, "annotations": {**annotations, **more}}


class Store:
    """A content store whose files get later times, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self._count = 0

    def add(self, data: object, name: str | None = None) -> Path:
        self._count += 1
        path = self.blobs / (name or f"{self._count:064x}")
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        os.utime(path, ns=(self._count, self._count))
        return path

    def found(self, head: bytes = HEAD) -> list[str]:
        return [layer.digest for layer in find_layers(self.path, head)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_newest_manifest_is_first(store: Store) -> None:
    store.add({"layers": [descriptor("other", b"other"), descriptor("old")]})
    store.add({"layers": [descriptor("new 1"), descriptor("new 2")]})
    store.add({"layers": [descriptor("another", b"another")]})
    assert store.found() == ["new 1", "new 2", "old"]
    assert store.found(bytes(32)) == []


def test_what_is_no_manifest_is_skipped(store: Store) -> None:
    store.add({"layers": [descriptor("found")]})
    wanted = HEAD.hex()
    hostile: list[object] = [
        b"",
        b"\x1f\x8b" + wanted.encode(),
        b"{" + wanted.encode(),
        b'{"layers":' + b"[" * 100_000 + wanted.encode(),
        b'{"layers":' + b'{"a":' * 100_000 + wanted.encode(),
        b'{"layers":' + b"9" * 100_000 + b',"x":"' + wanted.encode() + b'"}',
        b'{"\xff":"' + wanted.encode() + b'"}',
        {"layers": wanted},
        {"layers": {"annotations": {"vnd.crisper.head": wanted}}},
        {"layers": [wanted, None, 1, [wanted]]},
        {"layers": [{"annotations": wanted}]},
        {"layers": [{"annotations": {"vnd.crisper.head": wanted}}]},
        {"layers": [descriptor("no options") | {"annotations": {"vnd.crisper.head": wanted}}]},
        {"layers": [descriptor("x", more={"org.opencontainers.image.enc.pubopts": "!"})]},
        {"layers": [descriptor("x", more={"org.opencontainers.image.enc.keys.jwe": "A"})]},
        [descriptor("list")],
        wanted,
    ]
    for data in hostile:
        store.add(data)
    (store.blobs / "folder").mkdir()
    os.mkfifo(store.blobs / "pipe")
    (store.blobs / "dangling").symlink_to("nowhere")
    (store.blobs / "link").symlink_to("/dev/zero")
    assert store.found() == ["found"]


def test_a_file_over_the_limit_is_not_read(store: Store) -> None:
    manifest = json.dumps({"layers": [descriptor("large")]}).encode()
    store.add(manifest.ljust(MAX_MANIFEST_BYTES + 1))
    assert store.found() == []
    store.add(manifest.ljust(MAX_MANIFEST_BYTES))
    assert store.found() == ["large"]


def test_a_bounded_number_of_descriptors_is_tried(store: Store) -> None:
    store.add({"layers": [descriptor(str(count)) for count in range(MAX_LAYERS + 1)]})
    assert store.found() == [str(count) for count in range(MAX_LAYERS)]


def test_a_store_that_is_not_there_has_its_cause(tmp_path: Path) -> None:
    with pytest.raises(DecoderError, match=r"cannot be read \(No such file or directory\). Check the first"):
        list(find_layers(str(tmp_path / "nowhere"), HEAD))


def test_a_descriptor_has_the_wrapped_keys_and_the_hmac() -> None:
    two = ",".join(b64encode(name).decode() for name in (b"one", b"two"))
    parsed = parse_layer(descriptor("sha256:0", more={"org.opencontainers.image.enc.keys.jwe": two}))
    assert parsed == EncryptedLayer("sha256:0", (b"one", b"two"), bytes(32))


VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=9)
    | st.just(b64encode(json.dumps(OPTIONS).encode()).decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(descriptor()["annotations"])), VALUES), VALUES, VALUES)
def test_any_descriptor_is_parsed_or_refused(
    annotations: dict[str, Any], digest: object, options: object
) -> None:
    encoded = {"org.opencontainers.image.enc.pubopts": b64encode(json.dumps(options).encode()).decode()}
    for more in ({}, encoded):
        changed = {"digest": digest, "annotations": {**descriptor()["annotations"], **annotations, **more}}
        with suppress(DecoderError):
            assert parse_layer(changed).wrapped_keys


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"annotations": None}, "no key in the JWE format"),
        ({"annotations": {"org.opencontainers.image.enc.keys.pgp": "x"}}, "no key in the JWE format"),
        (descriptor(more={"org.opencontainers.image.enc.pubopts": "e30="}), "invalid annotations"),
        (descriptor(more={"org.opencontainers.image.enc.pubopts": "W10="}), "invalid annotations"),
        (
            descriptor(
                more={
                    "org.opencontainers.image.enc.pubopts": b64encode(
                        json.dumps(OPTIONS | {"cipher": "AEAD_AES_128_CBC"}).encode()
                    ).decode()
                }
            ),
            "a cipher other than AES_256_CTR_HMAC_SHA256",
        ),
    ],
)
def test_a_descriptor_that_is_not_ours_has_its_cause(changed: dict[str, Any], cause: str) -> None:
    with pytest.raises(DecoderError, match=cause):
        parse_layer(descriptor() | changed)
