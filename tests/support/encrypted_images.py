"""Encrypted layers and images, as a server makes them for one node."""

import gzip
import hashlib
import hmac
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from registry.oci.encrypted_manifest import LayerSecrets, encrypted_manifest
from registry.oci.mediatypes import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from registry.oci.node_key import NodeKey
from storage.digest import Digest

LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


def encrypt(plaintext: bytes, seed: bytes = bytes(32)) -> tuple[bytes, LayerSecrets]:
    """Encrypt a layer with random keys, as storage does."""
    symkey, nonce = os.urandom(32), os.urandom(16)
    ciphertext = Cipher(algorithms.AES256(symkey), modes.CTR(nonce)).encryptor().update(plaintext)
    mac = hmac.digest(symkey, ciphertext, "sha256")
    head = hashlib.sha256(ciphertext[:4096]).digest()
    return ciphertext, LayerSecrets(Digest.of(ciphertext), symkey, nonce, mac, head, seed)


def descriptor(media_type: str, content: bytes, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of executable files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@dataclass(frozen=True)
class EncryptedImage:
    """An image that was encrypted for one key: its manifest, and its blobs by digest."""

    plain: bytes
    manifest: bytes
    blobs: Mapping[str, bytes]
    layers: Sequence[bytes]

    @classmethod
    def build(cls, key: NodeKey, *tars: tuple[str, bytes], command: Sequence[str] = ("/hello",)) -> Self:
        """Build an image of layers, each with its compression: empty, `+gzip` or `+zstd`."""
        layers = [_compress(compression, tar) for compression, tar in tars]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/"]},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for _, tar in tars]},
        }
        config_bytes = json.dumps(config).encode()
        plain = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptor(OCI_CONFIG, config_bytes),
                "layers": [
                    descriptor(f"{LAYER}{compression}", layer)
                    for (compression, _), layer in zip(tars, layers, strict=True)
                ],
            }
        ).encode()
        encrypted = {Digest.of(layer): encrypt(layer) for layer in layers}
        secrets = {digest: secret for digest, (_, secret) in encrypted.items()}
        manifest = encrypted_manifest(plain, Digest.of(plain), secrets, key)
        stored = [config_bytes, manifest, *(ciphertext for ciphertext, _ in encrypted.values())]
        return cls(plain, manifest, {Digest.of(blob).hex: blob for blob in stored}, layers)

    def write_layout(self, folder: Path, name: str = "latest") -> None:
        """Write an OCI image layout."""
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for hex_, blob in self.blobs.items():
            (blobs / hex_).write_bytes(blob)
        entry = descriptor(
            OCI_MANIFEST, self.manifest, annotations={"org.opencontainers.image.ref.name": name}
        )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        (folder / "index.json").write_text(json.dumps(index))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def write_archive(self, folder: Path, name: str = "latest") -> Path:
        """Write the layout as a tar archive, as `ctr image import` reads it."""
        self.write_layout(folder, name)
        path = folder.with_suffix(".tar")
        with tarfile.open(path, "w") as archive:
            for part in ("oci-layout", "index.json", "blobs"):
                archive.add(folder / part, part)
        return path


def _compress(compression: str, tar: bytes) -> bytes:
    if compression == "+gzip":
        return gzip.compress(tar, mtime=0)
    return zstandard.compress(tar) if compression == "+zstd" else tar
