"""Letting the disk begin before all is written, so that the fsync at the end has little left to wait for."""

import ctypes
import sys

_SYNC_FILE_RANGE_WRITE = 2  # start, and do not wait (sync_file_range(2))

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def start_write_back(fd: int, offset: int, length: int) -> None:
    """Ask the system to start writing a range out. A hint: durability is fsync's matter."""
    if _libc is not None:
        _libc.sync_file_range(
            ctypes.c_int(fd),
            ctypes.c_int64(offset),
            ctypes.c_int64(length),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )
