"""Short-time spectra, and distances of spectra: log-mel at several scales, and magnitudes at several resolutions.

Past both ends of an utterance are zeros, and its padding is zeros, so distances of an utterance do not depend on its
padding. All is float32, under autocast too. Cost: O(S log N) per window.
Letters: B batch, S samples, F spectra, N samples in a window, M mel bins.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank

_LEAST_MAGNITUDE = 1e-5


def spectra(waveform: torch.Tensor, window: int, hop: int) -> torch.Tensor:
    """Give complex spectra of hann windows, (B, N // 2 + 1, F) with F = ceil(S / hop).

    Args:
        waveform: float (B, S).
        window: Samples (N).
        hop: Samples from one spectrum to the next.
    """
    rest = -waveform.shape[1] % hop
    side = (window - hop) // 2
    padded = F.pad(waveform.float(), (side, window - hop - side + rest))
    shape = torch.hann_window(window, device=waveform.device)
    return torch.stft(padded, window, hop, window=shape, center=False, return_complex=True)


def spectra_lengths(lengths: torch.Tensor, hop: int) -> torch.Tensor:
    """Give how many spectra rows of these lengths in samples have: int64 (B,)."""
    return (lengths + hop - 1) // hop


def _silenced(waveform: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    if lengths is None:
        return waveform.float()
    steps = torch.arange(waveform.shape[1], device=waveform.device)
    return waveform.float().masked_fill(steps >= lengths[:, None], 0.0)


def _real(values: torch.Tensor, lengths: torch.Tensor | None, hop: int) -> torch.Tensor:
    """Set spectra (B, bins, F) past an utterance's last to 0; they may still hear its end."""
    if lengths is None:
        return values
    steps = torch.arange(values.shape[2], device=values.device)
    return values.masked_fill(steps >= spectra_lengths(lengths, hop)[:, None, None], 0.0)


def _masked_mean(values: torch.Tensor, lengths: torch.Tensor | None, hop: int) -> torch.Tensor:
    """Give the mean of values (B, bins, F) over real spectra."""
    if lengths is None:
        return values.mean()
    count = spectra_lengths(lengths, hop).sum() * values.shape[1]
    return _real(values, lengths, hop).sum() / count.clamp(min=1)


class LogMel(torch.nn.Module):
    """Log-mel spectra of magnitudes, with Slaney's scale and norm; the hop is a quarter of the window.

    Args:
        sample_rate: Hz; the filters go from 0 to half of it.
        window: Samples (N).
        num_mels: M.
    """

    filters: torch.Tensor

    def __init__(self, sample_rate: int, window: int, num_mels: int) -> None:
        super().__init__()
        self.window, self.hop = window, window // 4
        filters = mel_filter_bank(
            num_frequency_bins=window // 2 + 1,
            num_mel_filters=num_mels,
            min_frequency=0.0,
            max_frequency=sample_rate / 2,
            sampling_rate=sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("filters", torch.from_numpy(filters).float().T.contiguous(), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Give float32 (B, M, F) of (B, S)."""
        with torch.autocast(waveform.device.type, enabled=False):
            magnitudes = spectra(waveform, self.window, self.hop).abs()
            return (self.filters @ magnitudes).clamp(min=_LEAST_MAGNITUDE).log()


class MelDistance(torch.nn.Module):
    """The mean absolute difference of log-mel spectra, averaged over scales.

    Args:
        sample_rate: Hz.
        windows: Samples of each scale.
        bins: Mel bins of each scale.

    Source: the mel loss of HiFi-GAN (Kong et al., 2020, section 2.4) at one scale; several as in Kumar et al.,
    "High-Fidelity Audio Compression with Improved RVQGAN", NeurIPS 2023, section 3.4.
    """

    def __init__(self, sample_rate: int, windows: Sequence[int], bins: Sequence[int]) -> None:
        super().__init__()
        self.scales = torch.nn.ModuleList(
            LogMel(sample_rate, window, num_mels) for window, num_mels in zip(windows, bins, strict=True)
        )

    def forward(
        self, spoken: torch.Tensor, original: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Give the distance.

        Args:
            spoken: float (B, S).
            original: float (B, S).
            lengths: int64 (B,), real samples of each row; None: all are.
        """
        spoken, original = _silenced(spoken, lengths), _silenced(original, lengths)
        found = [
            _masked_mean((scale(spoken) - scale(original)).abs(), lengths, scale.hop)  # type: ignore[arg-type]
            for scale in self.scales
        ]
        return torch.stack(found).mean()


class StftDistance(torch.nn.Module):
    """Spectral convergence plus the mean absolute difference of log magnitudes, averaged over resolutions.

    Spectral convergence is per utterance: the norm of the difference over the norm of the original.

    Args:
        windows: Samples of each resolution; the hop is a quarter.

    Source: Yamamoto et al., "Parallel WaveGAN", ICASSP 2020, section 2.2, equations 4 to 6.
    """

    def __init__(self, windows: Sequence[int]) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(
        self, spoken: torch.Tensor, original: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Give the distance; as ``MelDistance.forward``."""
        spoken, original = _silenced(spoken, lengths), _silenced(original, lengths)
        found = []
        for window in self.windows:
            hop = window // 4
            ours, theirs = (_real(spectra(each, window, hop).abs(), lengths, hop) for each in (spoken, original))
            off = torch.linalg.vector_norm(ours - theirs, dim=(1, 2))
            whole = torch.linalg.vector_norm(theirs, dim=(1, 2)).clamp(min=_LEAST_MAGNITUDE)
            logs = (ours.clamp(min=_LEAST_MAGNITUDE).log() - theirs.clamp(min=_LEAST_MAGNITUDE).log()).abs()
            found.append((off / whole).mean() + _masked_mean(logs, lengths, hop))
        return torch.stack(found).mean()
