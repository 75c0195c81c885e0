"""Reuse of freed memory by the C library's allocator."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
LARGEST_BLOCK = 2**30  # bytes


def keep_freed_memory() -> bool:
    """Let malloc reuse freed blocks of up to 1 GiB, and return whether it does; only glibc can.

    By default glibc returns every freed block above 32 MiB to the kernel, and each page of the next block costs a page
    fault. The process keeps the memory of its peak until it ends. Workers of a dataset build have variables of the same
    effect (`pipeline.cluster.workers.ENVIRONMENT`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, LARGEST_BLOCK) for name in (MMAP_THRESHOLD, TRIM_THRESHOLD))
