"""The process that decompresses one layer: `python -m registry.imports.recompress.sandbox gzip`.

Reads the layer from standard input, and writes the tar stream to standard output. Before it reads a byte, it
gives up every system call except those for its two pipes, memory and its end. Code that a malicious layer
makes it run has no files, no network, no other processes and no keys (docs/adr/0072-unpack-in-a-sandbox.md).
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from typing import Final

from registry.imports.recompress.decode import CHUNK_BYTES, DecodeError, Packing, decode

MEMORY_BYTES: Final = 1 << 30

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_KILL_PROCESS, _ALLOW = 0x8000_0000, 0x7FFF_0000  # linux/seccomp.h
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4

#: Audit number of an architecture, and its numbers of: read, write, close, mmap, mprotect, munmap, brk,
#: rt_sigaction, rt_sigprocmask, rt_sigreturn, sched_yield, mremap, madvise, futex, clock_gettime, exit,
#: exit_group, getrandom, restart_syscall.
_CALLS: Final = {
    "x86_64": (0xC000_003E, (0, 1, 3, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 202, 228, 60, 231, 318, 219)),
    "aarch64": (
        0xC000_00B7,
        (63, 64, 57, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233, 98, 113, 93, 94, 278, 128),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine() -> None:
    """Give up all rights of this process that decompression does not need.

    On Linux on other processors than x86-64 and arm64, and on other systems, only limits of resources apply.

    Raises:
        OSError: The kernel refuses the filter of system calls.
    """
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    known = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    libc = ctypes.CDLL(None, use_errno=True)
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    if known is None:
        return
    program = _filter(*known)
    address = ctypes.byref(_Program(len(program) // 8, program))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")


def _filter(architecture: int, calls: tuple[int, ...]) -> bytes:
    """Return a program for the kernel that kills the process at any other system call."""
    count = len(calls)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        *((_JUMP_IF_EQUAL, count - position, 0, call) for position, call in enumerate(calls)),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


class _Input:
    def read(self, _size: int = -1, /) -> bytes:
        return os.read(0, CHUNK_BYTES)


def _main(packing: str) -> int:
    confine()
    source = _Input()
    try:
        for piece in decode(Packing(packing), source.read(), source):
            left = memoryview(piece)
            while left:
                left = left[os.write(1, left) :]
    except DecodeError as error:
        return error.fault
    return 0


if __name__ == "__main__":
    os._exit(_main(sys.argv[1]))  # no clean-up: it needs system calls that are forbidden now
