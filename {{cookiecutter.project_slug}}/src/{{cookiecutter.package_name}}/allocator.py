"""How the C library treats memory that a step of training gives back."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
ALWAYS, LARGEST = 2**31 - 1, 32 * 2**20  # bytes; glibc takes no larger ones


def keep_freed_memory() -> bool:
    """Keep memory that is freed for the next step to use, and say whether the C library, glibc, knows how.

    By itself it may give large blocks, gradients above all, back to the system and ask for them anew at each step: up
    to 10 % of the time of a network of 10 M weights. Blocks above 32 MiB still come from the system (mallopt(3)).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(TRIM_THRESHOLD, ALWAYS) and mallopt(MMAP_THRESHOLD, LARGEST))
