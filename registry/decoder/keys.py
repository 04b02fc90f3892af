"""The node's private keys, in the folder that containerd's own decoder reads too.

Only unencrypted PKCS#8 keys are accepted: a file of another format stops the decoders of other clients.
"""

import json
import os
from base64 import b64decode
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from registry.decoder.descriptors import EncryptedLayer
from registry.errors import DecoderError, JweError, JweKeyMismatchError
from registry.oci import jwe

MAX_KEY_FILES: Final = 64
MAX_KEY_BYTES: Final = 64 << 10

_SYMKEY_BYTES = 32
_NONCE_BYTES = 16
_CONVERT = "Convert it: `openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW-FILE`"
_NOT_PKCS8: Final = {
    b"-----BEGIN EC PRIVATE KEY": f"is in the SEC1 format. {_CONVERT}",
    b"-----BEGIN EC PARAMETERS": f"is in the SEC1 format. {_CONVERT}",
    b"-----BEGIN RSA PRIVATE KEY": f"is in the PKCS#1 format. {_CONVERT}",
    b"-----BEGIN OPENSSH PRIVATE KEY": "is an OpenSSH key, which opens no layers",
    b"-----BEGIN ENCRYPTED PRIVATE KEY": f"is encrypted with a password. {_CONVERT}",
    b"-----BEGIN PUBLIC KEY": "is a public key: the private half is needed",
    b"-----BEGIN CERTIFICATE": "is a certificate, not a private key",
}


@dataclass(frozen=True, slots=True, repr=False)
class LayerKey:
    """Key of a layer: the cipher's, and its initial counter."""

    symkey: bytes
    nonce: bytes


class KeyFolder:
    """Private keys of a folder, with their thumbprints, and the reasons why other files are not keys."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._keys: dict[str, jwe.PrivateKey] = {}
        self._skipped: list[str] = []
        try:
            names = sorted(os.listdir(folder))[:MAX_KEY_FILES]
        except OSError as error:
            raise DecoderError(
                f"the key folder {folder} cannot be read ({error.strerror}). Run `crisper node enroll`."
            ) from None
        for name in names:
            self._load(os.path.join(folder, name))

    def open(self, layer: EncryptedLayer) -> LayerKey:
        """Unwrap a layer's key.

        Raises:
            JweKeyMismatchError: It was wrapped for other keys.
            DecoderError: It is damaged.
        """
        for wrapped in layer.wrapped_keys:
            meant = [self._keys[key_id] for key_id in jwe.key_ids(wrapped) if key_id in self._keys]
            for key in meant or self._keys.values():
                try:
                    return _parse_layer_key(jwe.unwrap(wrapped, key))
                except JweKeyMismatchError:
                    continue
                except JweError as error:
                    raise DecoderError(
                        f"{error}, for the layer {layer.digest}. Pull the image again."
                    ) from None
        raise JweKeyMismatchError("no key opens it")

    def explain(self, layer: EncryptedLayer) -> str:
        """Return a sentence about why no key opens a layer."""
        if not self._keys:
            reasons = "; ".join(self._skipped) or "it is empty"
            return f"no key in {self._folder} is usable: {reasons}. Or run `crisper node enroll`."
        wanted = ", ".join(key_id for wrapped in layer.wrapped_keys for key_id in jwe.key_ids(wrapped))
        skipped = f" Files that are no such keys: {'; '.join(self._skipped)}." if self._skipped else ""
        return (
            f"no key in {self._folder} opens the layer {layer.digest}: its key was wrapped for "
            f"{wanted or 'another key'}, and this node has {', '.join(self._keys)}. Pull the image again "
            "with a new token. If that does not help, announce this node's key: `crisper node enroll`."
            f"{skipped}"
        )

    def _load(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_KEY_BYTES)
            key = load_pem_private_key(data, None) if b"-----BEGIN PRIVATE KEY" in data else None
        except OSError as error:
            self._skipped.append(f"{path} cannot be read ({error.strerror})")
        except (ValueError, TypeError, UnsupportedAlgorithm):
            self._skipped.append(f"{path} is damaged")
        else:
            if isinstance(key, rsa.RSAPrivateKey) or (
                isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
            ):
                self._keys[jwe.thumbprint(key.public_key())] = key
            else:
                self._skipped.append(f"{path} {_reason(key, data)}")


def _reason(key: object, data: bytes) -> str:
    if key is None:
        return next((text for start, text in _NOT_PKCS8.items() if start in data), "is not a key in PEM")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"has a key of the curve {key.curve.name}, not P-256"
    kind = type(key).__name__.removesuffix("PrivateKey")
    return f"has a key of type {kind}, which cannot open layers: P-256 and RSA can"


def _parse_layer_key(data: bytes) -> LayerKey:
    try:
        options = json.loads(data)
        key = LayerKey(b64decode(options["symkey"]), b64decode(options["cipheroptions"]["nonce"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        key = LayerKey(b"", b"")
    if (len(key.symkey), len(key.nonce)) != (_SYMKEY_BYTES, _NONCE_BYTES):
        raise JweError("the wrapped key has invalid content")
    return key
