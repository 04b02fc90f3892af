"""Early write-back of a file to disk, so that the final fsync has less to wait for."""

import ctypes
import sys

_SYNC_FILE_RANGE_WRITE = 2  # start without waiting (sync_file_range(2))

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def start_write_back(fd: int, offset: int, length: int) -> None:
    """Start write-back of a range. This is only a hint; fsync makes the data durable."""
    if _libc is not None:
        _libc.sync_file_range(
            ctypes.c_int(fd),
            ctypes.c_int64(offset),
            ctypes.c_int64(length),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )
