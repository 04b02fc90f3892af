"""The program as containerd starts it: its streams, messages, exit status, start and memory."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
import tomllib
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from registry.decoder.containerd import stream_processors_toml
from registry.decoder.descriptors import MAX_MANIFEST_BYTES
from registry.decoder.stream import PIECE_BYTES
from registry.oci.node_key import NodeKey
from tests.support.decoding import DECODER, Decoded, decode, serialized_payload
from tests.support.encrypted_images import EncryptedImage
from tests.support.node_keys import EC_PRIVATE, RSA_PRIVATE, VECTORS, in_pkcs8, public_pem

KEYS: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {"ec": EC_PRIVATE, "rsa": RSA_PRIVATE}
SIZES = (0, 1, 4095, 4096, 4097, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 5_000_000)


class Node:
    """A node's content store and key folder, with one image of one layer."""

    def __init__(self, folder: Path, layer: bytes, key: str = "ec") -> None:
        self.keys, self.store = folder / "keys", folder / "store"
        self.keys.mkdir()
        (self.keys / "node.pem").write_bytes(in_pkcs8(KEYS[key]))
        self.thumbprint = NodeKey.parse(public_pem(KEYS[key])).thumbprint
        image = EncryptedImage.build(NodeKey.parse(public_pem(KEYS[key])), ("", layer))
        self.manifest = json.loads(image.manifest)
        self.descriptor: dict[str, Any] = self.manifest["layers"][0]
        self.ciphertext = image.blobs[self.descriptor["digest"].partition(":")[2]]
        (self.store / "blobs/sha256").mkdir(parents=True)
        (self.store / "blobs/sha256/manifest").write_bytes(image.manifest)

    def decode(self, ciphertext: bytes | None = None, *, payload: bool = False) -> Decoded:
        given = self.ciphertext if ciphertext is None else ciphertext
        sent = serialized_payload(self.descriptor) if payload else None
        return decode([DECODER, self.store, self.keys], given, sent)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("payload", [False, True], ids=["store", "payload"])
def test_a_layer_of_any_size_is_decrypted(tmp_path: Path, size: int, payload: bool) -> None:  # noqa: FBT001
    layer = os.urandom(size)
    assert Node(tmp_path, layer).decode(payload=payload) == Decoded(layer, "", 0)


@pytest.mark.parametrize("key", KEYS)
def test_the_golden_vectors_are_decrypted(tmp_path: Path, key: str) -> None:
    node = Node(tmp_path, b"other", key)
    (node.store / "blobs/sha256/vectors").write_bytes((VECTORS / f"{key}-manifest.json").read_bytes())
    for layer in json.loads((VECTORS / "vectors.json").read_bytes())["layers"]:
        plaintext, ciphertext = (b64decode(layer[name]) for name in ("plaintext", "ciphertext"))
        assert node.decode(ciphertext) == Decoded(plaintext, "", 0)


def test_the_payload_goes_before_the_content_store(tmp_path: Path) -> None:
    node = Node(tmp_path, b"layer")
    (node.store / "blobs/sha256/manifest").unlink()
    assert node.decode(payload=True).plaintext == b"layer"


@pytest.mark.parametrize(
    ("size", "place", "payload"),
    [
        (1, 0.0, False),
        (1, 0.0, True),
        (5000, 1.0, False),
        (5000, 0.5, True),
        (3 * PIECE_BYTES, 0.5, False),
        (3 * PIECE_BYTES, 1.0, False),
        (3 * PIECE_BYTES, 0.0, True),
    ],
)
def test_a_damaged_layer_is_never_complete(tmp_path: Path, size: int, place: float, payload: bool) -> None:  # noqa: FBT001
    layer = os.urandom(size)
    node = Node(tmp_path, layer)
    at = int(place * (size - 1))
    damaged = node.ciphertext[:at] + bytes([node.ciphertext[at] ^ 1]) + node.ciphertext[at + 1 :]
    found = node.decode(damaged, payload=payload)
    assert found.status == 1
    assert len(found.plaintext) <= max(0, size - PIECE_BYTES)
    if at < 4096 and not payload:
        assert "no manifest in the content store describes this layer" in found.said
    else:
        assert f"the layer {node.descriptor['digest']} does not match its HMAC" in found.said


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"], ids=["cut", "longer"])
def test_a_layer_of_another_length_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    node = Node(tmp_path, os.urandom(2 * PIECE_BYTES))
    found = node.decode(change(node.ciphertext))
    assert found.status == 1
    assert "does not match its HMAC" in found.said


def sec1() -> bytes:
    return EC_PRIVATE.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def pkcs8(key: Any, password: bytes | None = None) -> bytes:  # noqa: ANN401 - any key has this method
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    data: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return data


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "SEC1": (sec1(), "node.pem is in the SEC1 format. Convert it: `openssl pkcs8"),
    "Ed25519": (
        pkcs8(ed25519.Ed25519PrivateKey.generate()),
        "has a key of type Ed25519, which cannot open layers: P-256 and RSA can",
    ),
    "P-384": (pkcs8(ec.generate_private_key(ec.SECP384R1())), "has a key of the curve secp384r1, not P-256"),
    "PKCS#1": (
        RSA_PRIVATE.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
        "is in the PKCS#1 format. Convert it",
    ),
    "with a password": (pkcs8(EC_PRIVATE, b"secret"), "is encrypted with a password"),
    "public": (public_pem(EC_PRIVATE).encode(), "is a public key: the private half is needed"),
    "certificate": (b"-----BEGIN CERTIFICATE-----", "is a certificate, not a private key"),
    "damaged": (in_pkcs8(EC_PRIVATE)[:100], "node.pem is damaged"),
    "JSON": (b'{"kty":"EC"}', "is not a key in PEM"),
    "empty": (b"", "is not a key in PEM"),
    "zeros": (bytes(1 << 20), "is not a key in PEM"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_file_that_is_unusable_has_its_cause(tmp_path: Path, name: str) -> None:
    data, cause = UNUSABLE[name]
    node = Node(tmp_path, b"layer")
    (node.keys / "node.pem").write_bytes(data)
    found = node.decode()
    assert (found.plaintext, found.status) == (b"", 1)
    assert f"no key in {node.keys} is usable" in found.said
    assert cause in found.said
    (node.keys / "good.pem").write_bytes(in_pkcs8(EC_PRIVATE))
    assert node.decode() == Decoded(b"layer", "", 0), "it does not disturb a good key"


def test_another_nodes_key_has_its_cause(tmp_path: Path) -> None:
    node = Node(tmp_path, b"layer")
    (node.keys / "node.pem").write_bytes(in_pkcs8(RSA_PRIVATE))
    (node.keys / "sec1.pem").write_bytes(sec1())
    found = node.decode()
    assert (found.plaintext, found.status) == (b"", 1)
    present = NodeKey.parse(public_pem(RSA_PRIVATE)).thumbprint
    assert f"wrapped for {node.thumbprint}, and this node has {present}. Pull the image again" in found.said
    assert "sec1.pem is in the SEC1 format" in found.said


def test_the_key_may_be_one_of_many(tmp_path: Path) -> None:
    """The previous key opens a layer that was pulled before the rotation."""
    node = Node(tmp_path, b"layer")
    for count in range(10):
        key = ec.generate_private_key(ec.SECP256R1())
        (node.keys / f"a{count}.pem").write_bytes(in_pkcs8(key))
    (node.keys / "folder").mkdir()
    assert node.decode() == Decoded(b"layer", "", 0)


def test_an_older_manifest_with_the_right_key_is_found(tmp_path: Path) -> None:
    """A later pull was for another key, and a damaged manifest is the newest."""
    node = Node(tmp_path, b"layer")
    damaged, other = (json.loads(json.dumps(node.manifest)) for _ in "12")
    manifest = EncryptedImage.build(NodeKey.parse(public_pem(RSA_PRIVATE)), ("", b"layer")).manifest
    wrapped = "org.opencontainers.image.enc.keys.jwe"
    other["layers"][0]["annotations"][wrapped] = json.loads(manifest)["layers"][0]["annotations"][wrapped]
    (node.store / "blobs/sha256/newer").write_text(json.dumps(other))
    damaged["layers"][0]["annotations"][wrapped] = "e30="
    (node.store / "blobs/sha256/newest").write_text(json.dumps(damaged))
    os.utime(node.store / "blobs/sha256/manifest", ns=(1, 1))
    assert node.decode() == Decoded(b"layer", "", 0)


@pytest.mark.parametrize(
    ("missing", "cause"),
    [("keys", "the key folder .* cannot be read .*enroll"), ("store", "the content store .* cannot be read")],
)
def test_a_folder_that_is_missing_has_its_cause(tmp_path: Path, missing: str, cause: str) -> None:
    node = Node(tmp_path, b"layer")
    setattr(node, missing, tmp_path / "nowhere")
    found = node.decode()
    assert (found.plaintext, found.status) == (b"", 1)
    assert re.search(cause, found.said)


def test_the_usage_is_shown() -> None:
    found = decode([DECODER], b"")
    assert (found.status, found.said.partition(" ")[0]) == (1, "usage:")


def test_a_wrapped_key_that_was_modified_has_its_cause(tmp_path: Path) -> None:
    node = Node(tmp_path, b"layer")
    wrapped = "org.opencontainers.image.enc.keys.jwe"
    foreign = EncryptedImage.build(NodeKey.parse(public_pem(EC_PRIVATE)), ("", b"other")).manifest
    node.descriptor["annotations"][wrapped] = json.loads(foreign)["layers"][0]["annotations"][wrapped]
    found = node.decode(payload=True)
    assert (found.plaintext, found.status) == (b"", 1)
    assert "does not match its HMAC" in found.said
    node.descriptor["annotations"][wrapped] = "e30="
    assert "not a valid JWE, for the layer" in node.decode(payload=True).said


def test_the_output_outlives_the_program_when_it_fails(tmp_path: Path) -> None:
    """containerd looks for the exit status when the output has ended."""
    node = Node(tmp_path, b"layer")
    (node.keys / "node.pem").unlink()
    with subprocess.Popen(
        [DECODER, node.store, node.keys],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert b"no manifest" in process.stderr.read(), "nothing else holds standard error"
        assert process.wait(10) == 1
        os.set_blocking(process.stdout.fileno(), False)
        with pytest.raises(BlockingIOError):
            os.read(process.stdout.fileno(), 1)


def test_the_program_imports_little() -> None:
    """Each of these takes from 5 to 300 ms, for every layer of every pull."""
    code = "import registry.decoder.main, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode().split()
    )
    heavy = {"asyncio", "aiohttp", "pydantic", "logging", "pathlib", "ssl", "socket", "subprocess"}
    assert heavy.isdisjoint(loaded)
    assert not {name for name in loaded if name.startswith(("registry.", "storage", "auth"))} - {
        "registry.decoder",
        *(f"registry.decoder.{name}" for name in ("main", "descriptors", "keys", "payload", "stream")),
        "registry.errors",
        "registry.oci",
        "registry.oci.jwe",
    }


def test_the_program_starts_in_about_100_ms(tmp_path: Path) -> None:
    """CPU time of the whole run on a small layer: 70 to 90 ms on an idle machine, more on a busy one."""
    node = Node(tmp_path, b"layer")
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert node.decode().status == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.15


def test_a_store_of_hostile_files_takes_seconds_at_most(tmp_path: Path) -> None:
    """Many large files that name the layer and are the slowest to parse; more than are read in total."""
    node = Node(tmp_path, b"layer")
    head = node.descriptor["annotations"]["vnd.crisper.head"].encode()
    filling = b'{"layers":[' + b"[]," * (MAX_MANIFEST_BYTES // 3 - 100) + b'"' + head + b'"]}'
    blobs = node.store / "blobs/sha256"
    os.utime(blobs / "manifest", ns=(1, 1))
    (blobs / "hostile").write_bytes(filling)
    for count in range(100):
        os.link(blobs / "hostile", blobs / f"link-{count}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "no manifest in the content store describes this layer" in node.decode().said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 10


def test_memory_does_not_grow_with_the_layer(tmp_path: Path) -> None:
    layer = os.urandom(64 * PIECE_BYTES)
    node = Node(tmp_path, layer)
    peak = tmp_path / "peak"
    found = decode(
        ["/usr/bin/time", "--format=%M", f"--output={peak}", DECODER, node.store, node.keys], node.ciphertext
    )
    assert hashlib.sha256(found.plaintext).digest() == hashlib.sha256(layer).digest()
    assert int(peak.read_text()) < 60 << 10


def test_the_configuration_of_containerd_is_toml() -> None:
    folder = '/keys "of" \\ pc\u00fcter\x7f\n\U0001f511'
    parsed = tomllib.loads(stream_processors_toml("/usr/bin/decoder", "/store", folder))
    assert parsed["version"] == 2
    processors = parsed["stream_processors"]
    layer = "application/vnd.oci.image.layer.v1.tar"
    accepted = [media_type for each in processors.values() for media_type in each["accepts"]]
    assert sorted(accepted) == [f"{layer}+encrypted", f"{layer}+gzip+encrypted", f"{layer}+zstd+encrypted"]
    for name, processor in processors.items():
        assert name.startswith("io.containerd.ocicrypt.decoder.v1.tar")
        assert (processor["path"], processor["args"]) == ("/usr/bin/decoder", ["/store", folder])
        assert processor["returns"] in processor["accepts"][0]


def test_the_documented_configuration_is_the_generated_one() -> None:
    text = (Path(__file__).parents[4] / "docs" / "encrypted-delivery.md").read_text()
    documented = next(
        block for block in re.findall(r"```toml\n(.+?)```", text, re.DOTALL) if "version" in block
    )
    store = "/var/lib/containerd/io.containerd.content.v1.content"
    generated = stream_processors_toml(
        "/usr/local/bin/crisper-layer-decoder", store, "/etc/containerd/ocicrypt/keys"
    )
    assert documented.strip() == generated.strip()


def test_the_reader_may_leave(tmp_path: Path) -> None:
    node = Node(tmp_path, os.urandom(8 * PIECE_BYTES))
    started = time.monotonic()
    with subprocess.Popen(
        [DECODER, node.store, node.keys],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(node.ciphertext, timeout=20)
    assert process.returncode == 1
    assert b"Broken pipe" in said
    assert time.monotonic() - started < 10
