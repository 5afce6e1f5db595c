"""Memory that a process frees: to be kept, so that the next large tensor does not begin with page faults, or not."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Parameters of glibc's mallopt(3), from malloc.h."""


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of giving it back; elsewhere nothing happens.

    By default every tensor of more than 32 MB is mapped afresh and its pages are zeroed one fault at a time, which
    takes about as long as a convolution over it. All threads share one heap: what one frees another one can have.
    For a process of our own: it concerns every allocation of it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have none, Windows no library of that name
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26), (_ARENA_MAX, 1)):
        mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Let glibc give back what is free within its heap, in pieces that may be too small for what comes next."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
