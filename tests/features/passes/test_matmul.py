import time

import pytest
import torch

from pipeline.features.passes.matmul import matmul_peak


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_is_at_least_what_a_product_timed_by_hand_reaches(dtype):
    peak = matmul_peak("cpu", dtype)
    left = torch.randn(512, 512).to(getattr(torch, dtype))
    torch.mm(left, left)
    began = time.perf_counter()
    torch.mm(left, left)
    by_hand = 2 * 512**3 / (time.perf_counter() - began)
    # A machine that others use at the same time may slow either one down.
    assert peak > by_hand / 4
    assert 1e8 < peak < 1e15
