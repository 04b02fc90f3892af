"""The golden containers of tests/vectors/oeb2: what is stored today opens for ever."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from storage.digest import Digest
from storage.envelope.key import DataKey, wrap_aad
from storage.errors import BlobDamagedError
from storage.write.naming import ObjectNaming
from tests.support.deliverable import Sealed, open_container, seal, unseal

FOLDER = Path(__file__).parents[4] / "vectors" / "oeb2"
DOCUMENT = json.loads((FOLDER / "vectors.json").read_text())
POSITIVES = {vector["name"]: vector for vector in DOCUMENT["containers"]}
NEGATIVES = DOCUMENT["negatives"]


def stored(name: str) -> Sealed:
    ciphertext, sidecar = ((FOLDER / f"{name}.{part}").read_bytes() for part in ("ciphertext", "sidecar"))
    return Sealed(ciphertext, sidecar, Digest("sha256", POSITIVES[name]["ciphertext_sha256"]))


def open_vector(vector: dict[str, Any], sealed: Sealed) -> bytes:
    digest = Digest("sha256", vector["plaintext_sha256"])
    return unseal(sealed, digest, DataKey(bytes.fromhex(vector["dek"])))


def damaged(edit: dict[str, Any]) -> Sealed:
    sealed = stored(edit["base"])
    data = bytearray(getattr(sealed, edit["object"]))
    if "keep" in edit:
        data = bytearray(b"".join(data[start:end] for start, end in edit["keep"]))
    for offset in edit.get("flip", []):
        data[offset] ^= 1
    for offset, value in edit.get("set", []):
        data[offset] = value
    return sealed.damaged(**{edit["object"]: bytes(data)})


@pytest.mark.parametrize("name", POSITIVES)
def test_a_golden_container_opens_to_its_plaintext(name: str) -> None:
    vector, sealed = POSITIVES[name], stored(name)
    assert len(sealed.ciphertext) == vector["size_bytes"]
    assert hashlib.sha256(sealed.sidecar).hexdigest() == vector["sidecar_sha256"]
    assert open_vector(vector, sealed) == (FOLDER / f"{name}.plain").read_bytes()


@pytest.mark.parametrize("name", POSITIVES)
def test_sealing_with_the_same_randomness_gives_the_golden_bytes(name: str) -> None:
    vector = POSITIVES[name]
    sealed = seal(
        (FOLDER / f"{name}.plain").read_bytes(),
        key=DataKey(bytes.fromhex(vector["dek"])),
        entropy=lambda _size: bytes.fromhex(vector["file_id"]),
    )
    assert sealed == stored(name)


@pytest.mark.parametrize("name", POSITIVES)
def test_the_delivery_key_of_a_golden_container_is_the_vectors_and_decrypts_it(name: str) -> None:
    vector, sealed = POSITIVES[name], stored(name)
    digest = Digest("sha256", vector["plaintext_sha256"])
    key = open_container(sealed, digest, DataKey(bytes.fromhex(vector["dek"]))).delivery_key()
    assert key.symkey.hex() == vector["symkey"]
    assert key.nonce.hex() == vector["nonce"]
    assert key.hmac.hex() == vector["hmac"]
    assert key.head.hex() == vector["head_sha256"]
    assert key.derive(b"example").hex() == vector["derived_example"]
    assert hmac.digest(key.symkey, sealed.ciphertext, "sha256") == key.hmac
    plain = Cipher(AES(key.symkey), CTR(key.nonce)).decryptor().update(sealed.ciphertext)
    assert plain == (FOLDER / f"{name}.plain").read_bytes()


def test_one_vectors_counter_carries_over_32_bits_inside_its_first_segment() -> None:
    vector = POSITIVES["counter-carries-over-32-bits"]
    blocks_left = (1 << 32) - int(vector["nonce"][-8:], 16)
    assert 0 < blocks_left * 16 < 1 << vector["segment_log2"]


@pytest.mark.parametrize("edit", NEGATIVES, ids=[edit["damage"] for edit in NEGATIVES])
def test_a_golden_container_with_this_damage_is_refused(edit: dict[str, Any]) -> None:
    with pytest.raises(BlobDamagedError):
        open_vector(POSITIVES[edit["base"]], damaged(edit))


def test_the_worked_example_of_the_specification_is_the_golden_container() -> None:
    specification = (FOLDER.parents[2] / "docs" / "blob-format-oeb2.md").read_text()
    example = specification.split("## Worked example")[1].split("```")[1]
    shown = re.sub(r"\s", "", example)
    sealed, vector = stored("hello"), POSITIVES["hello"]
    for field in ("dek", "symkey", "nonce", "file_id", "commitment", "hmac", "ciphertext_sha256"):
        assert vector[field] in shown
    for start, end in ((0, 16), (16, 32), (32, 64), (64, 80), (80, 256)):
        assert sealed.sidecar[start:end].hex() in shown
    assert sealed.ciphertext.hex() in shown
    file_id, digest = bytes.fromhex(vector["file_id"]), Digest("sha256", vector["plaintext_sha256"])
    aad = wrap_aad(file_id, str(digest), "acme", "local-3f09c2d1", str(sealed.digest))
    naming = ObjectNaming(bytes(range(32)), digest)
    for text in (aad.hex(), naming.container(file_id), naming.sidecar(file_id)):
        assert text in shown
