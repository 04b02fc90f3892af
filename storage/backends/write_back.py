"""Start writing a file's data to disk early, so that the final fsync takes less time."""

import ctypes
import sys

_SYNC_FILE_RANGE_WRITE = 2  # start without waiting (sync_file_range(2))

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def start_write_back(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to start writing a range to disk. Only fsync makes the data durable."""
    if _libc is not None:
        _libc.sync_file_range(
            ctypes.c_int(fd),
            ctypes.c_int64(offset),
            ctypes.c_int64(length),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )
