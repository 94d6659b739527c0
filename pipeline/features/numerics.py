"""The numerics key: what the bits of a feature may depend on besides the plan."""

import importlib.metadata
import platform

from pipeline.work.machine import instructions

LIBRARIES = ("torch", "transformers", "numpy", "soundfile", "soxr")


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
        key["instructions"] = " ".join(instructions())
    return key
