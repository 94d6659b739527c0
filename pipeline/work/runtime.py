"""Threads and allocator of worker processes, set once before heavy libraries start their pools."""

import os
import sys

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
}
"""Settings of glibc and oneDNN for CPU workers, read at process start, so they travel in Ray's env_vars.

Without the first three large tensors go back to the kernel at every step, which made a training step 6 times slower on
a virtual machine. They do not hold for the arenas of other threads, hence one arena: HuBERT-base, batches of 16 s, one
thread, had 560,000 page faults in 15 s, with one arena 25,000 and a tenth more speed. oneDNN keeps what it built for
each of the last 1,024 shapes, and every length is a shape: after 14 utterances of 9 to 16 s HuBERT-base held 2.2 GB
and grew; with 16 kept it stays at 1.04 GB."""


def set_threads(threads: int) -> None:
    """Make torch and faiss compute with this many threads, loaded already or later; each has its own OpenMP.

    Args:
        threads: Threads, a constant of the plan: 1 and 2 threads give different bits.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Neither is imported here: torch alone takes seconds, and a K-means actor does without it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if faiss := sys.modules.get("faiss"):
        faiss.omp_set_num_threads(threads)
