"""`crisper-layer-decoder`: decrypts a layer from standard input to standard output.

A stream processor of containerd, which shows to the user what is written to standard error.
"""

import gc
import hashlib
import os
import sys
import time
from collections.abc import Iterable

from registry.decoder.descriptors import HEAD_BYTES, EncryptedLayer, find_layers, parse_layer
from registry.decoder.keys import KeyFolder, LayerKey
from registry.decoder.payload import read_payload
from registry.decoder.stream import PIECE_BYTES, decrypt_stream, read_piece, widen_pipe
from registry.errors import DecoderError, JweKeyMismatchError

_HOLD_S = 0.3
_USAGE = "usage: crisper-layer-decoder CONTENT-STORE KEY-FOLDER < CIPHERTEXT > LAYER"


def main() -> None:
    """Run the program with its arguments; the exit status is not 0 if the layer was not decrypted."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - as the usage says
        sys.exit(_USAGE)
    gc.disable()  # nothing here has cycles, and a large manifest is parsed five times faster
    try:
        decrypt(sys.argv[1], sys.argv[2], sys.stdin.fileno(), sys.stdout.fileno())
    except DecoderError as error:
        message = str(error)
    except OSError as error:
        message = f"the layer cannot be read or written: {error.strerror}"
    else:
        return
    _hold_output()
    sys.exit(f"crisper-layer-decoder: {message}")


def decrypt(content_store: str, key_folder: str, stdin: int, stdout: int) -> None:
    """Decrypt a layer.

    Args:
        content_store: Folder of containerd's content store.
        key_folder: Folder of the node's private keys.
        stdin: File descriptor with the ciphertext.
        stdout: File descriptor for the plaintext.

    Raises:
        DecoderError: No key opens the layer, or it is damaged.
        OSError: Reading or writing failed.
    """
    payload = read_payload()
    for fd in (stdin, stdout):
        widen_pipe(fd)
    first = read_piece(stdin, bytearray(PIECE_BYTES))
    if payload is None:
        candidates = find_layers(content_store, hashlib.sha256(first[:HEAD_BYTES]).digest())
    else:
        candidates = iter((parse_layer(payload),))
    layer, key = _open(candidates, KeyFolder(key_folder))
    if not decrypt_stream(first, stdin, stdout, key, layer.hmac):
        raise DecoderError(
            f"the layer {layer.digest} does not match its HMAC: it was damaged or modified on the way. "
            "Remove the image and pull it again."
        )


def _hold_output() -> None:
    """Keep standard output open for a moment after this program has ended, in a child.

    containerd looks for the exit status when the output ends. If the status is not there yet, it takes an
    empty output for an empty layer, and complains of a wrong diff id instead of showing the cause.
    """
    try:
        is_child = os.fork() == 0
    except OSError:  # the message of containerd is less clear then
        return
    if is_child:
        for fd in (sys.stdin.fileno(), sys.stderr.fileno()):
            os.close(fd)
        time.sleep(_HOLD_S)
        os._exit(0)


def _open(candidates: Iterable[EncryptedLayer], keys: KeyFolder) -> tuple[EncryptedLayer, LayerKey]:
    """Return the first layer that a key opens, and its key; else fail with the newest one's cause."""
    cause: DecoderError | None = None
    for layer in candidates:
        try:
            return layer, keys.open(layer)
        except JweKeyMismatchError:
            cause = cause or DecoderError(keys.explain(layer))
        except DecoderError as error:
            cause = cause or error
    raise cause or DecoderError(
        "no manifest in the content store describes this layer. It was encrypted by other software than "
        "Crisper, or its manifest was removed: pull the image again."
    )
