"""The matrix-product peak of a device: what a share of its speed is a share of."""

import functools
import time

_SIZE = 1024
_ON_ACCELERATOR = 8192
_REPEATS = 3


@functools.cache
def matmul_peak(device: str, dtype: str) -> float:
    """Measure the fastest matrix product of this process, once.

    It is done before an encoder's first shard, so it is short: 0.1 s on a CPU core of 92 GFLOP/s, where products of
    2048 x 2048, over half a second, had the same 92, and 205 in bfloat16 where these have 216.

    Args:
        device: A torch device; on CPU with the threads that are set.
        dtype: ``float32`` or ``bfloat16``.

    Returns:
        FLOP a second, 2 for a multiply-add: the best of a few repeats.
    """
    import torch

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    size = _ON_ACCELERATOR if device.startswith("cuda") else _SIZE
    left = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    out = torch.empty_like(left)
    best = 0.0
    # The first product pays for kernels and memory.
    for _ in range(1 + _REPEATS):
        began = time.perf_counter()
        torch.mm(left, left, out=out)
        wait()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
