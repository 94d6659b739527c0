"""What an estimate assumes of hardware and prices. Every figure is a setting, and the estimate shows it."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SettingsError

Dtype = Literal["float32", "bfloat16"]
"""Number format of a work's matrix products, as the settings of jobs name it."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """A device, how much of it each kind of work reaches, and prices.

    The shares, the seconds of a step beside its arithmetic, and the prices are assumptions and no measurements; a run
    of a few minutes on the device says more.

    Source: NVIDIA's data sheet of the H100 (SXM): 989 TFLOP/s of dense bfloat16 products, 67 of float32 ones.

    Raises:
        SettingsError: A figure is out of range.
    """

    assumed_device: str = "H100 SXM"
    """For --estimate: whose peaks these are."""
    gpu_tflops: float = 989.0
    """For --estimate: peak of bfloat16 matrix products without sparsity, 10^12 operations per second."""
    float32_tflops: float = 67.0
    """For --estimate: peak of float32 ones, 10^12 operations per second."""
    encoder_share: float = 0.35
    """For --estimate: share of the peak that passes of an encoder reach."""
    kmeans_share: float = 0.3
    """For --estimate: share that K-means reaches."""
    training_share: float = 0.15
    """For --estimate: share that trainings of tasks reach."""
    vocoder_share: float = 0.2
    """For --estimate: share that trainings of vocoders reach."""
    step_seconds: float = 0.02
    """For --estimate: what each step takes beside its arithmetic (launches, memory, the optimizer), seconds."""
    price_per_gpu_hour: float = 2.5
    """For --estimate: dollars per GPU hour."""
    price_per_gb_month: float = 0.023
    """For --estimate: dollars per GB of storage and month."""
    months: float = 1.0
    """For --estimate: months that data are kept."""

    def __post_init__(self) -> None:
        for name in ("gpu_tflops", "float32_tflops"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("encoder_share", "kmeans_share", "training_share", "vocoder_share"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        for name in ("step_seconds", "price_per_gpu_hour", "price_per_gb_month", "months"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must not be below 0, got {getattr(self, name)}")

    def seconds(self, flop: float, share: float, dtype: Dtype) -> float:
        """Say how long operations take on one device.

        Args:
            flop: Operations.
            share: Of the peak.
            dtype: Whose peak.
        """
        peak = self.gpu_tflops if dtype == "bfloat16" else self.float32_tflops
        return flop / (peak * 1e12 * share)

    def lines(self) -> list[tuple[str, str]]:
        """Give the assumptions as label and value pairs."""
        return [
            (
                "assumed device",
                f"{self.assumed_device}: {self.gpu_tflops:g} TFLOP/s bfloat16, {self.float32_tflops:g} float32",
            ),
            (
                "assumed share of peak",
                f"encoder {self.encoder_share:.0%}, K-means {self.kmeans_share:.0%}, tasks {self.training_share:.0%}, "
                f"vocoder {self.vocoder_share:.0%}; {self.step_seconds:g} s a step beside it",
            ),
            (
                "assumed prices",
                f"${self.price_per_gpu_hour:g} a GPU hour, ${self.price_per_gb_month:g} a GB and month, kept for "
                f"{self.months:g} months",
            ),
        ]
