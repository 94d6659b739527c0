import mmap
import os

from bench.memory import pages


def test_shared_memory_is_told_from_own():
    size, shared = pages(os.getpid())
    assert 0 <= shared < size
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(bytes([1]) * (64 << 20))
        grown, now_shared = pages(os.getpid())
    # Anonymous mappings of mmap are shared ones.
    assert abs(now_shared - shared - (64 << 20)) < 4 << 20
    assert grown - size > 60 << 20
