"""A wall clock that a test steps, for the processes that it starts: a library loaded before the C library.

libfaketime does the same, but does not work with the allocator of Redis.
"""

import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long *offset;

static long ahead(void) {
    if (!offset) {
        int file = open(OFFSET_FILE, O_RDONLY | O_CLOEXEC);
        if (file < 0) return 0;
        void *shared = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (shared == MAP_FAILED) return 0;
        offset = shared;
    }
    return *offset;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
"""


class SteppedClock:
    """Builds the library, and steps the clock of the processes that have loaded it.

    Attributes:
        environment: What the processes need in their environment.
    """

    def __init__(self, folder: Path) -> None:
        source, library = folder / "clock.c", folder / "clock.so"
        self._offset = folder / "clock.offset"
        source.write_text(_SOURCE)
        self._offset.write_bytes(struct.pack("l", 0))
        named = f'-DOFFSET_FILE="{self._offset}"'
        subprocess.run(
            ["cc", "-O1", "-shared", "-fPIC", named, "-o", library, source], check=True, timeout=60
        )
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library)}

    def step(self, seconds: int) -> None:
        """Set how far the clock is ahead. Monotonic time goes on as before."""
        with self._offset.open("r+b") as file:
            os.pwrite(file.fileno(), struct.pack("l", seconds), 0)
