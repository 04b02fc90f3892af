import base64
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519

from registry.errors import NodeKeyError
from registry.oci.node_key import NodeKey
from tests.support.node_keys import EC_PRIVATE, RSA_PRIVATE, in_pkcs8, public_pem

EC_PEM = public_pem(EC_PRIVATE)
RSA_PEM = public_pem(RSA_PRIVATE)
MODULUS = RSA_PRIVATE.public_key().public_numbers().n
RSA_OID = bytes.fromhex("06092a864886f70d0101010500")
PSS_OID = bytes.fromhex("06092a864886f70d01010a")


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8)
    length = length if size < 128 else bytes([0x80 | len(length)]) + length
    return bytes([tag]) + length + content


def rsa_pem(modulus: int, exponent: int, oid: bytes = RSA_OID) -> str:
    numbers = b"".join(
        tlv(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in (modulus, exponent)
    )
    return pem(tlv(0x30, tlv(0x30, oid) + tlv(3, b"\0" + tlv(0x30, numbers))))


def pem(der: bytes, label: str = "PUBLIC KEY") -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def of_curve(curve: ec.EllipticCurve) -> str:
    return public_pem(ec.generate_private_key(curve))


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def off_the_curve() -> str:
    der = bytearray(base64.b64decode("".join(EC_PEM.splitlines()[1:-1])))
    der[-1] ^= 1
    return pem(bytes(der))


CASES = {
    "private PKCS#8 key": (in_pkcs8(EC_PRIVATE).decode(), "private key, which must never leave"),
    "private SEC1 key": (
        EC_PRIVATE.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode(),
        "private key, which must never leave",
    ),
    "SEC1 with the curve before it": (
        pem(b"\x06\x08*\x86H\xce=\x03\x01\x07", "EC PARAMETERS") + pem(b"1", "EC PRIVATE KEY"),
        "private key, which must never leave",
    ),
    "private key beside the public one": (
        EC_PEM + in_pkcs8(EC_PRIVATE).decode(),
        "private key, which must never leave",
    ),
    "OpenSSH private key": (pem(b"openssh-key-v1", "OPENSSH PRIVATE KEY"), "private key, which must never"),
    "encrypted private key": (pem(b"1", "ENCRYPTED PRIVATE KEY"), "private key, which must never leave"),
    "certificate": (pem(b"1", "CERTIFICATE"), "This is a certificate, not a public key"),
    "certificate request": (pem(b"1", "CERTIFICATE REQUEST"), "This is a certificate request"),
    "curve parameters": (pem(b"1", "EC PARAMETERS"), "name of a curve"),
    "PKCS#1": (
        RSA_PRIVATE.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
        .decode(),
        "old PKCS#1 format. Convert it",
    ),
    "OpenSSH public key": (
        EC_PRIVATE.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode(),
        "not a public key in PEM",
    ),
    "PGP": (pem(b"1", "PGP PUBLIC KEY BLOCK"), "not a public key"),
    "JWK": ('{"kty":"EC","crv":"P-256"}', "not a public key in PEM"),
    "line feeds as two characters": (EC_PEM.replace("\n", "\\n"), "damaged"),
    "nothing": ("", "not a public key in PEM"),
    "garbage": ("garbage \x00 \U0001f511", "not a public key in PEM"),
    "lone surrogate": ("\ud800", "not a public key in PEM"),
    "two keys": (EC_PEM + RSA_PEM, "2 PEM blocks. Send one public key"),
    "key and certificate": (EC_PEM + pem(b"1", "CERTIFICATE"), "2 PEM blocks"),
    "over 16 KiB": (EC_PEM + " " * (16 << 10), "over 16 KiB"),
    "no end": (EC_PEM.replace("END", "ENDE"), "damaged"),
    "garbage in base64": (pem(b"garbage"), "damaged"),
    "not base64": (EC_PEM.replace("M", "%", 1), "damaged"),
    "empty block": ("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", "damaged"),
    "truncated": (pem(base64.b64decode("".join(EC_PEM.splitlines()[1:-1]))[:-5]), "damaged"),
    "point off the curve": (off_the_curve(), "its point is not on the curve"),
    "Ed25519": (public_pem(ed25519.Ed25519PrivateKey.generate()), "Keys of type Ed25519"),
    "Ed448": (public_pem(ed448.Ed448PrivateKey.generate()), "Keys of type Ed448"),
    "X25519": (public_pem(x25519.X25519PrivateKey.generate()), "Keys of type X25519"),
    "X448": (public_pem(x448.X448PrivateKey.generate()), "Keys of type X448"),
    "DSA": (public_pem(dsa.generate_private_key(2048)), "Keys of type DSA"),
    "P-224": (of_curve(ec.SECP224R1()), "The curve secp224r1 is not supported"),
    "P-384": (of_curve(ec.SECP384R1()), "The curve secp384r1 is not supported"),
    "P-521": (of_curve(ec.SECP521R1()), "The curve secp521r1 is not supported"),
    "secp256k1": (of_curve(ec.SECP256K1()), "The curve secp256k1 is not supported"),
    "brainpool": (of_curve(ec.BrainpoolP256R1()), "The curve brainpoolP256r1 is not supported"),
    "RSA 1024": (rsa_pem((1 << 1024) - 105, 65537), "has 1024 bits"),
    "RSA 2047": (rsa_pem((1 << 2047) - 1, 65537), "has 2047 bits"),
    "RSA 8193": (rsa_pem((1 << 8192) + 1, 65537), "has 8193 bits"),
    "RSA 16384": (rsa_pem((1 << 16384) - 1, 65537), "has 16384 bits"),
    "exponent 0": (rsa_pem(MODULUS, 0), "invalid modulus or exponent"),
    "exponent 1": (rsa_pem(MODULUS, 1), "invalid modulus or exponent"),
    "exponent 3": (rsa_pem(MODULUS, 3), "exponent is not an odd number from 65537"),
    "exponent 65535": (rsa_pem(MODULUS, 65535), "exponent is not an odd number from 65537"),
    "even exponent": (rsa_pem(MODULUS, 65538), "invalid modulus or exponent"),
    "exponent too large for Go": (rsa_pem(MODULUS, (1 << 31) + 1), "exponent is not an odd number"),
    "even modulus": (rsa_pem(MODULUS - 1, 65537), "even modulus"),
    "RSA-PSS": (rsa_pem(MODULUS, 65537, PSS_OID), "restricted to signatures (RSASSA-PSS)"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_other_key_is_refused_with_its_cause(name: str) -> None:
    text, cause = CASES[name]
    with pytest.raises(NodeKeyError, match=re.escape(cause)) as refused:
        NodeKey.parse(text)
    said = str(refused.value)
    assert re.search(r"(Send|Generate|Convert|Use) ", said), "says what to do"
    body = [line for line in text.splitlines() if len(line) > 30 and "-----" not in line]
    assert not any(line in said for line in body), "a private key must not reach a log"


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_refused_like_text(name: str) -> None:
    text, cause = CASES[name]
    with pytest.raises(NodeKeyError, match=re.escape(cause)):
        NodeKey.parse(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("private", [EC_PRIVATE, RSA_PRIVATE], ids=["ec", "rsa"])
def test_a_key_is_normalized(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    text = public_pem(private)
    key = NodeKey.parse(text)
    assert key.pem == text
    dressed = f"for pc-7\r\n{text.replace(chr(10), chr(13) + chr(10))}\n"
    assert NodeKey.parse(dressed) == NodeKey.parse(dressed.encode()) == key


def test_compressed_points_and_explicit_parameters_become_the_usual_form() -> None:
    explicit = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-param_enc", "explicit")
    public = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=explicit, capture_output=True, text=True, check=True
    ).stdout
    usual = NodeKey.parse(public).pem
    assert len(usual) < len(public)
    assert len(usual) == len(EC_PEM)
    compressed = subprocess.run(
        ["openssl", "ec", "-pubin", "-pubout", "-conv_form", "compressed"],
        input=EC_PEM,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(compressed) < len(EC_PEM)
    assert NodeKey.parse(compressed) == NodeKey.parse(EC_PEM)


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The key is that of the RFC's section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZ"
        "CiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJ"
        "ZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn"
        "iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    number = int.from_bytes(base64.urlsafe_b64decode(modulus + "=="))
    assert NodeKey.parse(rsa_pem(number, 65537)).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
