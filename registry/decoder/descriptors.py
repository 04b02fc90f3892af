"""Finds the descriptor of a layer among the manifests in containerd's content store.

Clients that send no payload (ctr, containerd's transfer service) have stored the manifest before they unpack
a layer. The annotation `vnd.crisper.head` leads from the layer's first bytes to its descriptor. Everything in
the content store comes from registries, so files are bounded in number, size and nesting.
"""

import json
import os
import stat
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import DecoderError

HEAD_BYTES: Final = 4096
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_FILES: Final = 20_000
MAX_READ_BYTES: Final = 256 << 20
MAX_PARSED_BYTES: Final = 32 << 20
MAX_LAYERS: Final = 64
"""Descriptors of one layer that are tried: each pull has stored one."""

_CIPHER = "AES_256_CTR_HMAC_SHA256"
_KEYS = "org.opencontainers.image.enc.keys.jwe"
_OPTIONS = "org.opencontainers.image.enc.pubopts"
_HEAD = "vnd.crisper.head"


@dataclass(frozen=True, slots=True)
class EncryptedLayer:
    """What a descriptor says about an encrypted layer.

    Attributes:
        digest: Digest of the ciphertext, for messages.
        wrapped_keys: JWEs, of which one key opens one.
        hmac: HMAC-SHA256 of the ciphertext.
    """

    digest: str
    wrapped_keys: tuple[bytes, ...]
    hmac: bytes


def parse_layer(descriptor: Mapping[str, Any]) -> EncryptedLayer:
    """Parse an encrypted layer's descriptor. Raises DecoderError."""
    digest = str(descriptor.get("digest"))
    annotations = descriptor.get("annotations")
    if not isinstance(annotations, dict) or not isinstance(annotations.get(_KEYS), str):
        raise DecoderError(
            f"the descriptor of the layer {digest} has no key in the JWE format. Check that the image comes "
            "from Crisper, or was encrypted with `jwe:`."
        )
    try:
        options = json.loads(b64decode(annotations[_OPTIONS]))
        keys = tuple(b64decode(key) for key in annotations[_KEYS].split(","))
        if options["cipher"] != _CIPHER:
            raise DecoderError(f"the layer {digest} is encrypted with a cipher other than {_CIPHER}")
        return EncryptedLayer(digest, keys, b64decode(options["hmac"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DecoderError(
            f"the descriptor of the layer {digest} has invalid annotations. Pull the image again."
        ) from None


def find_layers(content_store: str, head: bytes) -> Iterator[EncryptedLayer]:
    """Yield the descriptors of the layer whose ciphertext starts with these bytes, newest manifest first.

    Args:
        content_store: Folder of containerd's content store, with `blobs/sha256`.
        head: sha256 of the layer's first 4096 bytes.

    Raises:
        DecoderError: The content store cannot be read.
    """
    wanted = head.hex()
    left = MAX_LAYERS
    for data in _manifests(content_store, wanted.encode()):
        for descriptor in _layers(data):
            annotations = descriptor.get("annotations")
            if not isinstance(annotations, dict) or annotations.get(_HEAD) != wanted:
                continue
            try:
                yield parse_layer(descriptor)
            except DecoderError:
                continue
            left -= 1
            if not left:
                return


def _manifests(content_store: str, wanted: bytes) -> Iterator[bytes]:
    """Yield files that may be manifests and contain some text, newest first."""
    read_bytes = parsed_bytes = 0
    for path in _newest(os.path.join(content_store, "blobs", "sha256")):
        data = _read_json(path)
        read_bytes += len(data)
        parsed_bytes += len(data) if wanted in data else 0
        if read_bytes > MAX_READ_BYTES or parsed_bytes > MAX_PARSED_BYTES:
            return
        if wanted in data:
            yield data


def _newest(folder: str) -> list[str]:
    """Return the regular files of a folder that are not too large for a manifest, newest first."""
    found: list[tuple[int, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed by containerd's garbage collection
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_MANIFEST_BYTES:
                        found.append((status.st_mtime_ns, entry.path))
    except OSError as error:
        raise DecoderError(
            f"the content store {folder} cannot be read ({error.strerror}). Check the first argument in "
            "containerd's stream processor: it must be the folder io.containerd.content.v1.content."
        ) from None
    return [path for _, path in sorted(found, reverse=True)[:MAX_FILES]]


def _read_json(path: str) -> bytes:
    """Return a file that starts like a JSON object; else, as for most layers, nothing."""
    try:
        with open(path, "rb", buffering=0) as file:
            if file.read(1) != b"{":
                return b""
            return b"{" + (file.read(MAX_MANIFEST_BYTES) or b"")
    except OSError:
        return b""


def _layers(manifest: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        layers = json.loads(manifest).get("layers")
    except (ValueError, RecursionError, MemoryError):
        return
    if isinstance(layers, list):
        yield from (layer for layer in layers if isinstance(layer, dict))
