"""The numerics key: what the bits of a feature may depend on besides the plan."""

import importlib.metadata
import platform
from pathlib import Path

LIBRARIES = ("torch", "transformers", "numpy", "soundfile", "soxr")

_SIMD = ("avx512f", "avx2", "asimd", "sve")


def numerics_key(device: str) -> dict[str, str]:
    """Describe this machine as far as arithmetic may depend on it.

    Args:
        device: A torch device, as ``cpu`` or ``cuda``.

    Returns:
        Device name, instruction set and library versions; equal on machines that give equal bits.
    """
    key = {name: importlib.metadata.version(name) for name in LIBRARIES}
    if device.startswith("cuda"):
        import torch

        key["device"] = torch.cuda.get_device_name(device)
        key["cuda"] = str(torch.version.cuda)
    else:
        key["device"] = f"cpu {platform.machine()}"
        key["instructions"] = " ".join(_instructions())
    return key


def _instructions() -> list[str]:
    # torch and oneDNN choose kernels by these flags at run time.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return sorted({flag for flag in flags if flag.startswith(("amx", "avx512"))} | ({*flags} & {*_SIMD}))
