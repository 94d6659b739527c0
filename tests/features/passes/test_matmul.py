import time

import pytest
import torch

from pipeline.features.passes.matmul import matmul_peak


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_is_at_least_what_a_product_timed_by_hand_reaches(dtype):
    left = torch.randn(512, 512).to(getattr(torch, dtype))
    torch.mm(left, left)
    began = time.perf_counter()
    torch.mm(left, left)
    by_hand = 2 * 512**3 / (time.perf_counter() - began)
    # What else runs on the machine slows one measurement down, but not five in a row.
    peaks = [matmul_peak.__wrapped__("cpu", dtype)]
    while peaks[-1] <= by_hand / 4 and len(peaks) < 5:
        peaks.append(matmul_peak.__wrapped__("cpu", dtype))
    assert peaks[-1] > by_hand / 4, peaks
    assert 1e8 < peaks[-1] < 1e15
