"""Decryption of a layer from any offset, and verification of the whole. No I/O."""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from registry.decoder.keys import LayerKey
from registry.node_proxy.layers import EncryptedBlob

_BLOCK_BYTES = 16
_COUNTERS = 1 << 128


class Decryptor:
    """Decrypts a layer with AES-256-CTR, from an offset."""

    def __init__(self, key: LayerKey, offset: int = 0) -> None:
        blocks, skipped = divmod(offset, _BLOCK_BYTES)
        counter = (int.from_bytes(key.nonce) + blocks) % _COUNTERS
        self._context = Cipher(AES256(key.symkey), CTR(counter.to_bytes(_BLOCK_BYTES))).decryptor()
        self._context.update(bytes(skipped))

    def update(self, ciphertext: bytes) -> bytes:
        """Return the plaintext of the next bytes."""
        return self._context.update(ciphertext)


class LayerVerifier:
    """Checks a whole layer: the HMAC of its ciphertext, and the digest of its plaintext.

    The plaintext's digest, which is in the original manifest, covers key and nonce too. It makes the digest
    of the ciphertext redundant.
    """

    def __init__(self, layer: EncryptedBlob) -> None:
        self._layer = layer
        self._mac = hmac.new(layer.key.symkey, digestmod=hashlib.sha256)
        self._plaintext = layer.plaintext.hasher()
        self._decryptor = Decryptor(layer.key)

    def update(self, ciphertext: bytes) -> None:
        """Hash the next bytes."""
        self._mac.update(ciphertext)
        self._plaintext.update(self._decryptor.update(ciphertext))

    def matches(self) -> bool:
        """Return whether all bytes together are the layer."""
        is_authentic = hmac.compare_digest(self._mac.digest(), self._layer.hmac)
        return is_authentic and self._plaintext.hexdigest() == self._layer.plaintext.hex
