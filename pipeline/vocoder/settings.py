"""Settings of a vocoder's networks and losses, checked before anything starts. They know no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings

Arch = Literal["hifigan", "istft"]
Absent = Literal["masked", "learned"]
SpeakerInput = Literal["none", "vector", "table"]
Discriminator = Literal["period", "resolution", "scale"]
AdversarialLoss = Literal["least_squares", "hinge"]

_CHOICES = {
    "arch": ("hifigan", "istft"),
    "absent_layers": ("masked", "learned"),
    "speaker_input": ("none", "vector", "table"),
    "adversarial_loss": ("least_squares", "hinge"),
}


def _check_choices(settings: object) -> None:
    for name, allowed in _CHOICES.items():
        value = getattr(settings, name, allowed[0])
        if value not in allowed:
            raise SettingsError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_sizes(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        sizes = value if isinstance(value, tuple) else (value,)
        if not sizes or min(sizes) < 1:
            raise SettingsError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class VocoderSettings(Settings):
    """Sizes of a vocoder; the defaults are for a CPU, and small enough to ship."""

    arch: Arch = "istft"
    """Generator: hifigan upsamples frames step by step (the paper's), istft speaks through an inverse STFT (Vocos)."""
    upsample_rates: tuple[int, ...] = (5, 4, 4, 2, 2)
    """Factors of the upsampling of hifigan; their product is the encoder's hop."""
    upsample_kernels: tuple[int, ...] = (11, 8, 8, 4, 4)
    """Kernel of each upsampling of hifigan, samples."""
    upsample_channels: int = 256
    """Channels before the first upsampling of hifigan; each one halves them."""
    residual_kernels: tuple[int, ...] = (3, 7, 11)
    """Kernels of the residual blocks of hifigan, whose outputs are averaged."""
    residual_dilations: tuple[int, ...] = (1, 3, 5)
    """Dilations in each residual block of hifigan."""
    convnext_dim: int = 256
    """Channels of the ConvNeXt blocks of istft."""
    convnext_hidden: int = 768
    """Inner channels of the ConvNeXt blocks of istft."""
    convnext_blocks: int = 7
    """ConvNeXt blocks of istft."""
    convnext_kernel: int = 7
    """Kernel of the ConvNeXt blocks of istft, frames; odd."""
    n_fft: int = 1024
    """Samples in one spectrum of istft: at least twice the encoder's hop, both even or both odd."""
    absent_layers: Absent = "masked"
    """What absent layers are in the attention: masked (weight 0), or learned, a vector with a weight of its own, as in
    the authors' code."""
    layer_dropout: bool = True
    """Drop random layers in training, so that one vocoder speaks any set of layers."""
    speaker_input: SpeakerInput = "none"
    """Who speaks: none, a vector per utterance (Resemblyzer's embedding of its recording), or a table of the training
    speakers."""
    speaker_dim: int = 256
    """Width of the vectors of speaker_input vector; 256 is the speaker encoder's."""
    duration_predictor: bool = False
    """Also learn how many frames each run of equal tokens lasts, to speak deduplicated tokens."""
    duration_channels: int = 256
    """Channels of the duration predictor."""
    duration_dropout: float = 0.5
    """Share of activations set to 0 in the duration predictor."""

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_sizes(
            self,
            *("upsample_rates", "upsample_kernels", "upsample_channels", "residual_kernels", "residual_dilations"),
            *("convnext_dim", "convnext_hidden", "convnext_blocks", "convnext_kernel", "n_fft"),
            *("speaker_dim", "duration_channels"),
        )
        if not 0 <= self.duration_dropout < 1:
            raise SettingsError(f"duration_dropout must be in [0, 1), got {self.duration_dropout}")
        self._check_upsampling()
        for name in ("residual_kernels", "convnext_kernel"):
            value = getattr(self, name)
            if any(size % 2 == 0 for size in (value if isinstance(value, tuple) else (value,))):
                raise SettingsError(f"{name} must be odd, so that a convolution has a middle; got {value}")

    def _check_upsampling(self) -> None:
        rates, kernels = self.upsample_rates, self.upsample_kernels
        if len(rates) != len(kernels):
            raise SettingsError(f"upsample_rates {rates} and upsample_kernels {kernels} must be as many")
        for rate, kernel in zip(rates, kernels, strict=True):
            if kernel < rate:
                raise SettingsError(
                    f"an upsample kernel of {kernel} leaves gaps at a rate of {rate}; take at least that"
                )
        if self.upsample_channels % 2 ** len(rates):
            raise SettingsError(
                f"upsample_channels must be a multiple of {2 ** len(rates)}, which {len(rates)} upsamplings halve it "
                f"by; got {self.upsample_channels}"
            )

    def check_hop(self, hop_length: int) -> None:
        """Refuse a hop that the generator cannot give.

        Args:
            hop_length: Samples per frame of the encoder.

        Raises:
            SettingsError: It cannot.
        """
        given = math.prod(self.upsample_rates)
        if self.arch == "hifigan" and given != hop_length:
            raise SettingsError(
                f"the encoder has a hop of {hop_length} samples and upsample_rates {self.upsample_rates} give {given}; "
                f"choose factors whose product is {hop_length}"
            )
        if self.arch == "istft" and (self.n_fft < 2 * hop_length or (self.n_fft - hop_length) % 2):
            raise SettingsError(
                f"n_fft {self.n_fft} does not fit the encoder's hop of {hop_length} samples: it must be at least "
                f"{2 * hop_length}, and differ from {hop_length} by an even number"
            )


@dataclass(frozen=True, kw_only=True)
class VocoderLossSettings(Settings):
    """What a vocoder is trained by."""

    discriminators: tuple[Discriminator, ...] = ("period", "resolution")
    """Discriminators: period and scale are HiFi-GAN's, resolution hears spectra."""
    discriminator_channels: int = 128
    """Channels of the widest layers of the discriminators period and scale, a multiple of 128; 1024 is HiFi-GAN's."""
    resolution_channels: int = 16
    """Channels of the discriminator resolution; 32 is Vocos'."""
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods of the discriminator period, samples."""
    resolutions: tuple[int, ...] = (512, 1024, 2048)
    """Windows of the discriminator resolution, samples."""
    num_scales: int = 3
    """Scales of the discriminator scale, each half the rate of the one before."""
    adversarial_loss: AdversarialLoss = "hinge"
    """Adversarial loss: least_squares (HiFi-GAN's) or hinge."""
    adversarial_weight: float = 1.0
    """Weight of the adversarial loss of the generator."""
    feature_weight: float = 10.0
    """Weight of the distance of discriminator features (feature matching), a mean over all of them."""
    mel_weight: float = 15.0
    """Weight of the log-mel distance."""
    mel_windows: tuple[int, ...] = (512, 1024, 2048)
    """Windows of the log-mel spectra, samples; the hop is a quarter."""
    mel_bins: tuple[int, ...] = (40, 80, 120)
    """Mel bins of each window."""
    stft_weight: float = 0.0
    """Weight of the multi-resolution STFT distance."""
    stft_windows: tuple[int, ...] = (512, 1024, 2048)
    """Windows of the STFT distance, samples; the hop is a quarter."""
    duration_weight: float = 1.0
    """Weight of the error of log durations."""

    def __post_init__(self) -> None:
        _check_choices(self)
        known = ("period", "resolution", "scale")
        if unknown := [name for name in self.discriminators if name not in known]:
            raise SettingsError(f"discriminators are of {', '.join(known)}, got {', '.join(unknown)}")
        if not self.discriminators or len(set(self.discriminators)) < len(self.discriminators):
            raise SettingsError(f"name discriminators, each once; got {', '.join(self.discriminators) or 'none'}")
        windows = ("resolutions", "mel_windows", "stft_windows")
        _check_sizes(
            self, "discriminator_channels", "resolution_channels", "periods", "num_scales", "mel_bins", *windows
        )
        if self.discriminator_channels % 128:
            raise SettingsError(f"discriminator_channels must be a multiple of 128, got {self.discriminator_channels}")
        for name in windows:
            if any(window % 8 for window in getattr(self, name)):
                raise SettingsError(f"{name} must be multiples of 8, got {getattr(self, name)}")
        if len(self.mel_windows) != len(self.mel_bins):
            raise SettingsError(f"mel_windows {self.mel_windows} and mel_bins {self.mel_bins} must be as many")
        for name in ("adversarial_weight", "feature_weight", "mel_weight", "stft_weight", "duration_weight"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must not be below 0, got {getattr(self, name)}")
        if not self.mel_weight + self.stft_weight > 0:
            raise SettingsError("mel_weight and stft_weight are both 0: nothing says what the speech should be")


PREDICTED = "predicted"


@dataclass(frozen=True, kw_only=True)
class SpeakingSettings(Settings):
    """How a vocoder is given its work; samples depend on these within rounding."""

    batch_seconds: float = 16.0
    """Padded seconds of speech in one batch of the vocoder, at most."""
    piece_seconds: float = 16.0
    """Longer utterances are spoken alone, in overlapping pieces of this length, seconds; they join without a seam."""
    durations: Literal["given", "predicted"] = "given"
    """Frames of equal tokens: as many as are given, or one run each, as long as a vocoder with --duration-predictor
    predicts: for deduplicated units of a language model."""

    def __post_init__(self) -> None:
        if self.durations not in ("given", PREDICTED):
            raise SettingsError(f"durations must be given or predicted, got {self.durations!r}")
        for name in ("batch_seconds", "piece_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name):g}")
