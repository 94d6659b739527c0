"""The matrix-product peak of a device: what a share of its speed is a share of."""

import time

_SIZES = (1024, 2048)
_ON_ACCELERATOR = (4096, 8192)


def matmul_peak(device: str, dtype: str, *, seconds: float = 0.5) -> float:
    """Measure the fastest matrix product of this process.

    Args:
        device: A torch device; on CPU with the threads that are set.
        dtype: ``float32`` or ``bfloat16``.
        seconds: About how long to measure.

    Returns:
        FLOP a second, 2 for a multiply-add: the best repeat of the best size.
    """
    import torch

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    best = 0.0
    sizes = _ON_ACCELERATOR if device.startswith("cuda") else _SIZES
    for size in sizes:
        left = torch.randn(size, size, device=device).to(getattr(torch, dtype))
        out = torch.empty_like(left)
        until = time.perf_counter() + seconds / len(sizes)
        repeats = 0
        # The first product pays for kernels and memory, so one more is always measured.
        while repeats < 2 or time.perf_counter() < until:
            began = time.perf_counter()
            torch.mm(left, left, out=out)
            wait()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
            repeats += 1
    return best
