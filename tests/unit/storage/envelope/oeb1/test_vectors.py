"""The golden containers of tests/vectors/oeb1: what is stored today opens for ever."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.sealer import Sealer
from storage.errors import BlobDamagedError
from tests.support.containers import unseal

FOLDER = Path(__file__).parents[4] / "vectors" / "oeb1"
DOCUMENT = json.loads((FOLDER / "vectors.json").read_text())
POSITIVES = {vector["name"]: vector for vector in DOCUMENT["containers"]}
NEGATIVES = DOCUMENT["negatives"]


def container_of(name: str) -> bytes:
    return (FOLDER / f"{name}.oeb1").read_bytes()


def open_vector(vector: dict[str, Any], container: bytes) -> bytes:
    key = DataKey(bytes.fromhex(vector["dek"]))
    return unseal(container, Digest("sha256", vector["plaintext_sha256"]), key)


def damaged(edit: dict[str, Any]) -> bytes:
    data = bytearray(container_of(edit["base"]))
    if "keep" in edit:
        return b"".join(data[start:end] for start, end in edit["keep"])
    for offset in edit.get("flip", []):
        data[offset] ^= 1
    for offset, value in edit.get("set", []):
        data[offset] = value
    return bytes(data)


@pytest.mark.parametrize("name", POSITIVES)
def test_a_golden_container_opens_to_its_plaintext(name: str) -> None:
    vector, container = POSITIVES[name], container_of(name)
    assert len(container) == vector["container_bytes"]
    assert hashlib.sha256(container).hexdigest() == vector["container_sha256"]
    assert open_vector(vector, container) == (FOLDER / f"{name}.plain").read_bytes()


@pytest.mark.parametrize("name", [name for name, vector in POSITIVES.items() if vector["codec"] == 0])
def test_sealing_with_the_same_randomness_gives_the_golden_bytes(name: str) -> None:
    # Without codec 1: another release of zstd may compress to other bytes that open just as well.
    vector, plaintext = POSITIVES[name], (FOLDER / f"{name}.plain").read_bytes()
    drawn = iter(bytes.fromhex(vector[field]) for field in ("file_id", "salt", "nonce_prefix"))
    sealer = Sealer(
        DataKey(bytes.fromhex(vector["dek"])),
        codec=Codec.NONE,
        segment_log2=vector["segment_log2"],
        entropy=lambda _size: next(drawn),
    )
    parts = [sealer.head, bytes(sealer.feed(plaintext)), sealer.finish(hashlib.sha256(plaintext).digest())]
    assert b"".join(parts) == container_of(name)


@pytest.mark.parametrize("edit", NEGATIVES, ids=[edit["damage"] for edit in NEGATIVES])
def test_a_golden_container_with_this_damage_is_refused(edit: dict[str, Any]) -> None:
    with pytest.raises(BlobDamagedError):
        open_vector(POSITIVES[edit["base"]], damaged(edit))


def test_there_are_more_negative_vectors_than_positive_ones() -> None:
    assert len(NEGATIVES) > len(POSITIVES)


def test_the_worked_example_of_the_specification_is_the_golden_container() -> None:
    specification = (FOLDER.parents[2] / "docs" / "blob-format.md").read_text()
    example = specification.split("## Worked example")[1].split("```")[1]
    shown = "".join(example.split())
    container = container_of("hello")
    for start, end in ((0, 16), (16, 32), (32, 64), (65, 97), (97, 104)):
        assert container[start:end].hex() in shown
    assert container[104:132].hex() in shown
    assert container[132:].hex() in shown
    assert POSITIVES["hello"]["dek"] in shown
