"""Keeps a worker's memory near what it uses.

By default glibc keeps what threads have freed: an arena for each thread, and blocks of megabytes once one of them was
freed. Snapshots move content through several threads in such blocks, and a worker runs for weeks.
"""

import ctypes

# Parameters of mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_LARGE_BYTES = 2 << 20
_TRIM_BYTES = 4 << 20
_ARENAS = 2


def give_back_what_is_freed() -> bool:
    """Have large blocks returned to the system as they are freed; False where the C library is another than glibc."""
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    # A threshold that is set no longer grows by itself.
    wanted = ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _TRIM_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)
