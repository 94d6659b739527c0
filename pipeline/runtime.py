"""Threads and allocator of worker processes, set once before heavy libraries start their pools."""

import os

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc settings for CPU workers: without them large tensors go back to the kernel at every step, which made a
training step 6 times slower on a virtual machine. Read at process start, so they travel in Ray's env_vars."""


def set_threads(threads: int) -> None:
    """Make torch and faiss compute with this many threads; each brings an OpenMP of its own.

    Args:
        threads: Threads, a constant of the plan: 1 and 2 threads give different bits.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(threads)
