"""What of this machine the bits of arithmetic may depend on."""

from pathlib import Path

_SIMD = ("avx512f", "avx2", "asimd", "sve")


def instructions() -> list[str]:
    """Name the instruction sets of this CPU by which libraries choose their kernels at run time."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return sorted({flag for flag in flags if flag.startswith(("amx", "avx512"))} | ({*flags} & {*_SIMD}))
