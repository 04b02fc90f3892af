"""Encrypted images in the clients that nodes run, without a server: what one writes, the others open."""

import gzip
import hashlib
import json
import os
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry.oci.jwe import PrivateKey
from registry.oci.node_key import NodeKey
from tests.support.built_programs import go_program
from tests.support.clients import Podman
from tests.support.crictl import Crictl
from tests.support.decoding import DECODER, Decoded, decode, serialized_payload
from tests.support.dockerd import Containerd
from tests.support.encrypted_images import EncryptedImage, tar_of
from tests.support.node_keys import EC_PRIVATE, RSA_PRIVATE, VECTORS, in_pkcs8, public_pem
from tests.support.processes import Result, run
from tests.support.upstream import Upstream

BUSYBOX = Path("/bin/busybox")
MIB = 1 << 20
COMPRESSIONS = ("+gzip", "+zstd", "")
PRIVATE: dict[str, PrivateKey] = {"ec": EC_PRIVATE, "rsa": RSA_PRIVATE}
OTHER = NodeKey.parse(public_pem(ec.generate_private_key(ec.SECP256R1())))

kinds = pytest.mark.parametrize("kind", PRIVATE)


def public(kind: str) -> NodeKey:
    return NodeKey.parse(public_pem(PRIVATE[kind]))


def layers() -> list[tuple[str, bytes]]:
    """One layer of each compression; content that no other test has, so that nothing was unpacked before."""
    said = tar_of({"said": b"decrypted\n"})
    contents = (tar_of({"bin/busybox": BUSYBOX.read_bytes()}), tar_of({"noise": os.urandom(3 * MIB)}), said)
    return list(zip(COMPRESSIONS, contents, strict=True))


def runnable(key: NodeKey) -> EncryptedImage:
    return EncryptedImage.build(key, *layers(), command=["/bin/busybox", "cat", "/said"])


def descriptors(image: EncryptedImage) -> list[dict[str, Any]]:
    return list(json.loads(image.manifest)["layers"])


# Other implementations


@kinds
def test_skopeo_decrypts_what_crisper_encrypted(kind: str, tmp_path: Path) -> None:
    image = runnable(public(kind))
    image.write_layout(tmp_path / "encrypted")
    copied = skopeo_copy(
        f"oci:{tmp_path}/encrypted:latest",
        f"oci:{tmp_path}/plain:latest",
        f"--decryption-key={VECTORS / kind}.private.pem",
    )
    copied.check()
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "plain/blobs/sha256").iterdir()}
    for layer in image.layers:
        assert blobs[hashlib.sha256(layer).hexdigest()] == layer


def test_podman_runs_what_skopeo_decrypted_into_its_storage(own_folder: Path) -> None:
    runnable(public("ec")).write_layout(own_folder / "encrypted")
    name = "localhost/crisper-encrypted:1"
    with TemporaryDirectory(prefix="podman-", dir="/tmp") as folder:  # its paths may not be long
        podman = Podman(Path(folder))
        skopeo_copy(
            f"oci:{own_folder}/encrypted:latest",
            f"{podman.storage}{name}",
            f"--decryption-key={VECTORS / 'ec'}.private.pem",
        ).check()
        assert podman.run(name).check().output.splitlines()[-1] == "decrypted"


def test_skopeo_refuses_another_key(tmp_path: Path) -> None:
    runnable(OTHER).write_layout(tmp_path / "encrypted")
    copied = skopeo_copy(
        f"oci:{tmp_path}/encrypted:latest",
        f"dir:{tmp_path}/plain",
        f"--decryption-key={VECTORS / 'ec'}.private.pem",
    )
    assert not copied.ok
    assert "no suitable key unwrapper found or none of the private keys could be used" in copied.output


@kinds
def test_crisper_decrypts_what_skopeo_encrypted(kind: str, tmp_path: Path, keys: Path) -> None:
    plain = runnable(public(kind))
    layout = tmp_path / "plain"
    write_plain(plain, layout)
    (tmp_path / "public.pem").write_text(public_pem(PRIVATE[kind]))
    skopeo_copy(
        f"oci:{layout}:latest",
        f"oci:{tmp_path}/encrypted:latest",
        f"--encryption-key=jwe:{tmp_path}/public.pem",
    ).check()
    blobs = tmp_path / "encrypted/blobs/sha256"
    index = json.loads((tmp_path / "encrypted/index.json").read_bytes())
    manifest = json.loads((blobs / index["manifests"][0]["digest"].partition(":")[2]).read_bytes())
    for described, layer in zip(manifest["layers"], plain.layers, strict=True):
        ciphertext = (blobs / described["digest"].partition(":")[2]).read_bytes()
        assert ciphertext != layer
        found = decode([DECODER, tmp_path, keys], ciphertext, serialized_payload(described))
        assert (found.said, found.status) == ("", 0)
        assert layer in {found.plaintext, _gunzip(found.plaintext)}, "skopeo compresses what is a plain tar"


@pytest.mark.full
@kinds
def test_gos_decoder_decrypts_what_crisper_encrypted(kind: str, keys: Path) -> None:
    image = runnable(public(kind))
    for described, layer in zip(descriptors(image), image.layers, strict=True):
        ciphertext = image.blobs[described["digest"].partition(":")[2]]
        argv = [go_program("ctd-decoder"), "--decryption-keys-path", keys]
        described["mediaType"] = described["mediaType"].replace("zstd", "gzip")  # unknown to this version
        assert decode(argv, ciphertext, serialized_payload(described)).plaintext == layer
        damaged = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
        assert decode(argv, damaged, serialized_payload(described)).status == 1


@pytest.mark.full
@kinds
def test_gos_decoder_opens_the_golden_vectors(kind: str, keys: Path) -> None:
    """Among them are counters that carry over 2^32, 2^64 and 2^128."""
    manifest = json.loads((VECTORS / f"{kind}-manifest.json").read_bytes())
    argv = [go_program("ctd-decoder"), "--decryption-keys-path", keys]
    vectors = json.loads((VECTORS / "vectors.json").read_bytes())["layers"]
    for described, vector in zip(manifest["layers"], vectors, strict=True):
        plaintext, ciphertext = (b64decode(vector[name]) for name in ("plaintext", "ciphertext"))
        assert decode(argv, ciphertext, serialized_payload(described)) == Decoded(plaintext, "", 0)


# containerd


@pytest.fixture(scope="module")
def keys(workdir: Path) -> Path:
    folder = workdir / "layer-keys"
    folder.mkdir(exist_ok=True)
    for kind, private in PRIVATE.items():
        (folder / f"{kind}.pem").write_bytes(in_pkcs8(private))
    return folder


@pytest.fixture(scope="module", params=[None, MIB], ids=["1.6", "2.3"])
def ctr(request: pytest.FixtureRequest, workdir: Path, keys: Path) -> Iterator[Callable[..., Result]]:
    folder = workdir / f"decoding-containerd-{request.param}"
    with Containerd(folder, chunk_bytes=request.param, keys=keys) as daemon:
        argv = [daemon.ctr, "--address", str(daemon.socket), "--namespace", "e2e"]
        yield lambda *words: run([*argv, *map(str, words)])


@kinds
def test_containerd_runs_an_encrypted_image(ctr: Callable[..., Result], kind: str, own_folder: Path) -> None:
    """`ctr` sends no payload: the decoder finds the keys in the content store."""
    name = f"crisper.test/encrypted:{kind}"
    ctr("images", "import", runnable(public(kind)).write_archive(own_folder / "image", name)).check()
    assert ctr("run", "--rm", name, f"run-{kind}").check().output.splitlines()[-1] == "decrypted"


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=["gzip", "zstd", "tar"])
@pytest.mark.parametrize(("size", "place"), [(1000, 0.5), (3 * MIB, 1.0)])
def test_a_damaged_layer_never_becomes_runnable(
    ctr: Callable[..., Result], compression: str, size: int, place: float, own_folder: Path
) -> None:
    """The damage has the right digest, as if the registry itself had sent it."""
    image = damaged(EncryptedImage.build(public("ec"), (compression, tar_of({"f": os.urandom(size)}))), place)
    name = f"crisper.test/damaged:{compression.strip('+') or 'tar'}-{size}-{place}"
    imported = ctr("images", "import", image.write_archive(own_folder / "image", name))
    assert not imported.ok
    if size == 1000:
        assert "does not match its HMAC: it was damaged or modified on the way" in imported.output
    else:
        assert "unexpected EOF" in imported.output
    assert not ctr("run", "--rm", name, "run-damaged", "/bin/busybox").ok


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=["gzip", "zstd", "tar"])
def test_an_image_for_another_node_is_refused_with_its_cause(
    ctr: Callable[..., Result], compression: str, own_folder: Path
) -> None:
    image = EncryptedImage.build(OTHER, (compression, tar_of({"f": os.urandom(1000)})))
    name = f"crisper.test/other:{compression.strip('+') or 'tar'}"
    imported = ctr("images", "import", image.write_archive(own_folder / "image", name))
    assert not imported.ok
    assert f"its key was wrapped for {OTHER.thumbprint}, and this node has" in imported.output


@pytest.mark.full
@pytest.mark.parametrize("chunk_bytes", [None, MIB], ids=["1.6", "2.3"])
def test_kubernetes_runs_an_encrypted_image(chunk_bytes: int | None, own_folder: Path, keys: Path) -> None:
    """CRI of containerd 1.6 sends a payload, CRI of 2.3 none."""
    pause = EncryptedImage.build(public("ec"), layers()[0], command=["/bin/busybox", "sleep", "1000"])
    with Upstream.anonymous(own_folder / "registry") as registry:
        for name, image in (("pause", pause), ("app", runnable(public("rsa"))), ("other", runnable(OTHER))):
            image.write_layout(own_folder / name)
            target = f"docker://{registry.host}/{name}:1"
            skopeo_copy(f"oci:{own_folder / name}:latest", target, "--dest-tls-verify=false").check()
        daemon = Containerd(
            own_folder / "containerd", chunk_bytes=chunk_bytes, keys=keys, pause=f"{registry.host}/pause:1"
        )
        with daemon:
            cri = Crictl(daemon, own_folder)
            cri.pull(f"{registry.host}/app:1").check()
            assert cri.run(f"{registry.host}/app:1") == "decrypted"
            refused = cri.pull(f"{registry.host}/other:1")
            assert not refused.ok
            assert f"its key was wrapped for {OTHER.thumbprint}, and this node has" in refused.output


def damaged(image: EncryptedImage, place: float) -> EncryptedImage:
    """Flip a bit of the only layer, and describe the result as if it were right."""
    manifest, blobs = json.loads(image.manifest), dict(image.blobs)
    described = manifest["layers"][0]
    layer = bytearray(blobs.pop(described["digest"].partition(":")[2]))
    layer[int((len(layer) - 1) * place)] ^= 1
    digest = hashlib.sha256(layer).hexdigest()
    described["digest"] = f"sha256:{digest}"
    described["annotations"]["vnd.crisper.head"] = hashlib.sha256(layer[:4096]).hexdigest()
    data = json.dumps(manifest).encode()
    return EncryptedImage(
        image.plain,
        data,
        blobs | {digest: bytes(layer), hashlib.sha256(data).hexdigest(): data},
        image.layers,
    )


def _gunzip(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def write_plain(image: EncryptedImage, folder: Path) -> None:
    config = json.loads(image.plain)["config"]["digest"].partition(":")[2]
    contents = [image.blobs[config], image.plain, *image.layers]
    blobs = {hashlib.sha256(content).hexdigest(): content for content in contents}
    EncryptedImage(image.plain, image.plain, blobs, image.layers).write_layout(folder)


def skopeo_copy(source: str, target: str, *options: str) -> Result:
    return run(["skopeo", "copy", *options, source, target])
