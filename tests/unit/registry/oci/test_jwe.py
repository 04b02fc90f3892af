import hashlib
import itertools
import json
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwe as other_jwe
from jwcrypto import jwk

from registry.errors import JweError, JweKeyMismatchError
from registry.oci import jwe
from tests.support.node_keys import EC_PRIVATE, RSA_PRIVATE, in_pkcs8

KEYS: dict[str, jwe.PrivateKey] = {"ec": EC_PRIVATE, "rsa": RSA_PRIVATE}
EC, RSA = "ECDH-ES+A256KW", "RSA-OAEP"
ALGORITHMS = {"ec": EC, "rsa": RSA}
ALLOWED = [*ALGORITHMS.values(), "A256GCM"]
SEED = bytes(range(32))
SECRET = b'{"symkey":"..."}'

kinds = pytest.mark.parametrize("kind", KEYS)


def wrapped(kind: str, plaintext: bytes = SECRET, seed: bytes = SEED) -> bytes:
    return jwe.wrap(plaintext, KEYS[kind].public_key(), seed)


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@kinds
@given(plaintext=st.binary(max_size=500), seed=st.binary(min_size=32, max_size=32))
@settings(max_examples=25, deadline=None)
def test_the_private_key_opens_what_was_wrapped(kind: str, plaintext: bytes, seed: bytes) -> None:
    assert jwe.unwrap(wrapped(kind, plaintext, seed), KEYS[kind]) == plaintext


@kinds
def test_jwcrypto_opens_ours(kind: str) -> None:
    token = other_jwe.JWE(algs=ALLOWED)
    token.deserialize(wrapped(kind).decode(), jwk.JWK.from_pem(in_pkcs8(KEYS[kind])))
    assert token.payload == SECRET
    assert jwk.JWK.from_pem(in_pkcs8(KEYS[kind])).thumbprint() == jwe.key_ids(wrapped(kind))[0]


@kinds
@pytest.mark.parametrize("recipients", [1, 3])
@pytest.mark.parametrize("party", [{}, {"apu": encode(b"Alice"), "apv": encode(b"Bob")}])
def test_ours_opens_jwcryptos(kind: str, recipients: int, party: dict[str, str]) -> None:
    """Of several recipients, the last one has the key."""
    token = other_jwe.JWE(SECRET, json.dumps({"enc": "A256GCM"}), algs=ALLOWED)
    keys = [jwk.JWK.generate(kty="EC", crv="P-256") for _ in range(recipients - 1)]
    header = {"alg": ALGORITHMS[kind], **(party if kind == "ec" else {})}
    for key in keys:
        token.add_recipient(key, json.dumps({"alg": "ECDH-ES+A256KW"}))
    token.add_recipient(jwk.JWK.from_pem(in_pkcs8(KEYS[kind])), json.dumps(header))
    assert jwe.unwrap(token.serialize().encode(), KEYS[kind]) == SECRET


@kinds
def test_additional_data_are_authenticated(kind: str) -> None:
    protected = json.dumps({"alg": ALGORITHMS[kind], "enc": "A256GCM"})
    token = other_jwe.JWE(SECRET, protected, aad=b"more", algs=ALLOWED)
    token.add_recipient(jwk.JWK.from_pem(in_pkcs8(KEYS[kind])))
    fields = json.loads(token.serialize())
    assert jwe.unwrap(json.dumps(fields).encode(), KEYS[kind]) == SECRET
    fields["aad"] = encode(b"less")
    with pytest.raises(JweError, match="was modified"):
        jwe.unwrap(json.dumps(fields).encode(), KEYS[kind])


@kinds
def test_the_bytes_are_the_same_in_every_process(kind: str) -> None:
    code = (
        "from registry.oci import jwe; from tests.support import node_keys; import sys; "
        f"sys.stdout.buffer.write(jwe.wrap({SECRET!r}, "
        f"node_keys.{kind.upper()}_PRIVATE.public_key(), bytes(range(32))))"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in "12"
    }
    assert outputs == {wrapped(kind)}


@kinds
def test_other_arguments_share_no_key_and_no_nonce(kind: str) -> None:
    """Neither the seed nor the plaintext nor the reader's key can change alone without all derived values."""
    another: jwe.PrivateKey = (
        ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    )
    made = [
        json.loads(jwe.wrap(plaintext, key.public_key(), seed))
        for plaintext, key, seed in itertools.product(
            (SECRET, SECRET[:-1] + b"?"), (KEYS[kind], another), (SEED, SEED[::-1])
        )
    ]
    for name in ("iv", "encrypted_key", "ciphertext", "tag"):
        assert len({fields[name] for fields in made}) == len(made)
    if kind == "ec":
        ephemeral = {json.loads(decode(fields["protected"]))["epk"]["x"] for fields in made}
        assert len(ephemeral) == len(made)
    masks = {
        int.from_bytes(decode(fields["ciphertext"])) ^ int.from_bytes(plaintext)
        for fields, (plaintext, _, _) in zip(
            made,
            itertools.product((SECRET, SECRET[:-1] + b"?"), range(2), range(2)),
            strict=True,
        )
    }
    assert len(masks) == len(made), "the key stream is never the same"


@pytest.mark.parametrize("bits", [2048, 2055, 3072])
def test_oaep_is_that_of_cryptography(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits)
    padded = padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)  # noqa: S303 - as ocicrypt
    for secret in (b"", bytes(32), b"\x01" * 32, b"x" * ((key.key_size + 7) // 8 - 42)):
        sealed = jwe._oaep_encrypt(secret, key.public_key(), hashlib.sha1(secret).digest())  # noqa: S324 - its size
        assert key.decrypt(sealed, padded) == secret


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_a_programming_error(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        wrapped("ec", seed=bytes(size))


@kinds
def test_another_key_is_not_taken_for_damage(kind: str) -> None:
    others = (
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    )
    for other in others:
        with pytest.raises(JweKeyMismatchError, match="wrapped for another key"):
            jwe.unwrap(wrapped(kind), other)


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(wrapped("ec"))
    edit(fields)
    return json.dumps(fields).encode()


def header_with(**more: object) -> bytes:
    fields = json.loads(wrapped("ec"))
    header = json.loads(decode(fields["protected"])) | more
    return json.dumps(fields | {"protected": encode(json.dumps(header).encode())}).encode()


DAMAGED = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "list": b"[]",
    "number": b"1",
    "null": b"null",
    "deep": b"[" * 100_000,
    "compact": b"a.b.c.d.e",
    "empty": b"{}",
    "ciphertext": edited(lambda fields: fields.update(ciphertext=encode(b"another"))),
    "tag": edited(lambda fields: fields.update(tag=encode(bytes(16)))),
    "no tag": edited(lambda fields: fields.pop("tag")),
    "iv": edited(lambda fields: fields.update(iv=encode(bytes(12)))),
    "empty iv": edited(lambda fields: fields.update(iv="")),
    "iv is a number": edited(lambda fields: fields.update(iv=1)),
    "recipients is a number": edited(lambda fields: fields.update(recipients=1)),
    "no recipients": edited(lambda fields: fields.update(recipients=[])),
    "recipient is a text": edited(lambda fields: fields.update(recipients=["x"])),
    "header is a list": edited(lambda fields: fields.update(header=[1])),
    "protected is a list": edited(lambda fields: fields.update(protected=encode(b"[]"))),
    "protected is not JSON": edited(lambda fields: fields.update(protected=encode(b"{"))),
    "protected is not base64": edited(lambda fields: fields.update(protected="A")),
    "another cipher": header_with(enc="A128CBC-HS256"),
    "compressed": header_with(zip="DEF"),
    "critical extension": header_with(crit=["b64"], b64=False),
    "direct agreement": header_with(alg="ECDH-ES"),
    "no algorithm": header_with(alg=None),
    "epk of another curve": header_with(epk={"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
    "epk off the curve": header_with(epk={"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}),
    "epk at infinity": header_with(epk={"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
    "epk too long": header_with(epk={"kty": "EC", "crv": "P-256", "x": "AQ" * 4000, "y": "AQ"}),
    "no epk": header_with(epk=None),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error_of_ours(name: str) -> None:
    with pytest.raises(JweError):
        jwe.unwrap(DAMAGED[name], EC_PRIVATE)
    assert isinstance(jwe.key_ids(DAMAGED[name]), list)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([EC, RSA]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "enc", "epk", "kid", "apu", "apv", "crit", "zip"]),
    VALUES | st.fixed_dictionaries({"crv": st.just("P-256"), "x": VALUES, "y": VALUES}),
)


@given(
    fields=st.dictionaries(
        st.sampled_from([*json.loads(wrapped("ec")), "aad", "header", "unprotected", "recipients"]),
        VALUES
        | HEADERS
        | st.lists(HEADERS, max_size=2)
        | HEADERS.map(lambda header: encode(json.dumps(header).encode())),
    ),
    kind=st.sampled_from(sorted(KEYS)),
)
@settings(max_examples=500, deadline=None)
def test_any_json_is_an_error_of_ours(fields: dict[str, Any], kind: str) -> None:
    message = json.dumps(json.loads(wrapped(kind)) | fields).encode()
    try:
        assert jwe.unwrap(message, KEYS[kind]) == SECRET
    except JweError:
        assert fields
    assert all(isinstance(key_id, str) for key_id in jwe.key_ids(message))


def test_only_the_first_recipients_are_tried() -> None:
    fields = json.loads(wrapped("ec"))
    mine = {"encrypted_key": fields["encrypted_key"]}
    other = {"encrypted_key": encode(bytes(40))}
    for count, opens in ((63, True), (64, False)):
        message = json.dumps(fields | {"recipients": [*[other] * count, mine]}).encode()
        if opens:
            assert jwe.unwrap(message, EC_PRIVATE) == SECRET
        else:
            with pytest.raises(JweKeyMismatchError):
                jwe.unwrap(message, EC_PRIVATE)
