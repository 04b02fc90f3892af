"""Runs Crisper's layer decoder as containerd does: streams, a payload, and the bytes that come back."""

import json
import os
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

DECODER = Path(sysconfig.get_path("scripts")) / "crisper-layer-decoder"


@dataclass(frozen=True)
class Decoded:
    """What a decoder wrote, and its exit status."""

    plaintext: bytes
    said: str
    status: int


def protobuf_any(value: bytes, url: bytes = b"io.containerd.ocicrypt.v1.Payload") -> bytes:
    """Serialize a `protobuf.Any`."""
    return b"\x0a" + _varint(len(url)) + url + b"\x12" + _varint(len(value)) + value


def serialized_payload(descriptor: Mapping[str, Any]) -> bytes:
    """Serialize imgcrypt's payload, as CRI passes it."""
    return protobuf_any(json.dumps({"DecryptConfig": {"Parameters": {}}, "Descriptor": descriptor}).encode())


def decode(argv: Sequence[object], ciphertext: bytes, payload: bytes | None = None) -> Decoded:
    """Run a decoder on a layer.

    Args:
        argv: The decoder and its arguments.
        ciphertext: Goes to its standard input.
        payload: Goes to file descriptor 3, which is closed otherwise.
    """
    words = [str(word) for word in argv]
    with ExitStack() as stack:

        def pipe_with(data: bytes) -> int:
            reader, writer = os.pipe()
            stack.callback(feed(os.fdopen(writer, "wb"), data).join)
            stack.callback(os.close, reader)
            return reader

        passed: tuple[int, ...] = ()
        if payload is not None:
            passed = (pipe_with(payload),)
            words = ["bash", "-c", 'exec "$@" 3<&"$0"', str(passed[0]), *words]
        process = subprocess.Popen(
            words,
            stdin=pipe_with(ciphertext),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
        )
        plaintext, said = process.communicate(timeout=60)
    return Decoded(plaintext, said.decode(errors="replace"), process.returncode)


def feed(pipe: IO[bytes], data: bytes) -> Thread:
    """Write to a pipe in a thread, and close it."""

    def write() -> None:
        with suppress(BrokenPipeError), pipe:
            pipe.write(data)

    thread = Thread(target=write)
    thread.start()
    return thread


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
