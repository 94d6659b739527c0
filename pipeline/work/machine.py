"""What of this machine the bits of arithmetic, and its speed, may depend on."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

_SIMD = ("avx512f", "avx2", "asimd", "sve")
_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


def instructions() -> list[str]:
    """Name the instruction sets of this CPU by which libraries choose their kernels at run time."""
    flags = _flags()
    return sorted({flag for flag in flags if flag.startswith(("amx", "avx512"))} | (flags & {*_SIMD}))


def warn_of_bfloat16(device: str, dtype: str) -> None:
    """Say in the log where bfloat16 was asked for and the CPU has no instructions for it.

    Such a CPU computes bfloat16 number by number: with AVX2 alone, torch 2.13 made steps of pretraining 6 times slower
    than in float32.

    Args:
        device: Type of a torch device.
        dtype: Number format of the arithmetic.
    """
    flags = _flags()
    if device == "cpu" and dtype == "bfloat16" and flags and not flags & {*_BFLOAT16}:
        logger.warning(
            "this CPU has no instructions for bfloat16, which may be many times slower than float32 here; "
            "--dtype float32 avoids it"
        )


def _flags() -> set[str]:
    """Give what this CPU can do, in the kernel's words; nothing where the kernel does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
