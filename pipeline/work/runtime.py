"""Threads and allocator of worker processes, set once before heavy libraries start their pools."""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

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

# Numbers of glibc's mallopt (malloc.h) for the first four, whose values are ints.
_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2, "MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_ARENA_MAX": -8}


def settle_allocator() -> None:
    """Make the settings of ``ALLOCATOR`` in this process, which runs already; where there is no glibc, oneDNN's alone.

    They stay for the life of the process.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", ALLOCATOR["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, number in _MALLOPT.items():
            mallopt(number, min(int(ALLOCATOR[name]), 2**31 - 1))


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """Build what imports large libraries without looking for garbage meanwhile, and leave what was built out of it.

    Importing torch 2.13 and transformers 5.23 makes a million objects that stay: 2.8 s instead of 3.4 s. At the end of
    the process Python looks through them once more, for a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextlib.contextmanager
def kept_threads(threads: int) -> Iterator[None]:
    """Compute with some threads for a while, and afterwards with as many as before.

    Args:
        threads: See ``set_threads``.
    """
    # Importing it sets an environment variable of Intel's OpenMP.
    from threadpoolctl import threadpool_limits

    variable = os.environ.get("OMP_NUM_THREADS")
    torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
    before = torch.get_num_threads() if torch else None, faiss.omp_get_max_threads() if faiss else None
    set_threads(threads)
    try:
        # Numpy's BLAS was loaded before, with a thread per core: k-means++ in threads of its own took five times the
        # CPU time, because each of its products started as many again.
        with threadpool_limits(limits=threads, user_api="blas"):
            yield
    finally:
        if variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = variable
        # A library that was loaded meanwhile keeps what it was loaded with.
        if torch and before[0]:
            torch.set_num_threads(before[0])
        if faiss and before[1]:
            faiss.omp_set_num_threads(before[1])


def set_threads(threads: int) -> None:
    """Make torch and faiss compute with this many threads, loaded already or later; each has its own OpenMP.

    Args:
        threads: Threads, a constant of the plan: 1 and 2 threads give different bits.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Neither is imported anew here: torch alone takes seconds, and a K-means actor does without it. One that another
    # thread is importing is waited for, which only an import does: it is in sys.modules before it can be used.
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    if "faiss" in sys.modules:
        import faiss

        faiss.omp_set_num_threads(threads)
