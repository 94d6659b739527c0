"""Log-mel spectra of Kaldi's kind, from which Wav2Vec2Bert and MFCC begin.

All is float64 until the end: what a frame gets then depends on its batch by far less than float32 can tell.
"""

from collections.abc import Sequence
from typing import Self

import torch
from transformers.audio_utils import mel_filter_bank, window_function

from pipeline.audio.clock import Clock
from pipeline.features.encoders.spectrum import SPECTRUM_HOP, SPECTRUM_WINDOW

FFT_LENGTH = 512
PREEMPHASIS = 0.97
LOWEST_HERTZ = 20
POWER_FLOOR = 1.192092955078125e-07
"""Power below which the logarithm is not taken: the rounding unit of float32."""
VARIANCE_FLOOR = 1e-7


class LogMel:
    """Gives the log-mel spectra of a batch."""

    def __init__(self, *, num_mel_bins: int, hop_length: int, sample_rate: int, scale: float) -> None:
        """Make the window and the filters.

        Args:
            num_mel_bins: M.
            hop_length: Samples from one spectrum to the next.
            sample_rate: Hz; the filters end at half of it.
            scale: Factor on waveforms in [-1, 1]; Kaldi's 16-bit samples are 32768.
        """
        self._hop_length = hop_length
        self._scale = scale
        self._window = torch.from_numpy(window_function(SPECTRUM_WINDOW, "povey", periodic=False)).double()
        filters = mel_filter_bank(
            num_frequency_bins=FFT_LENGTH // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=LOWEST_HERTZ,
            max_frequency=sample_rate // 2,
            sampling_rate=sample_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self._filters_FM = torch.from_numpy(filters).double()

    def to(self, device: torch.device) -> Self:
        """Move to a device."""
        self._window, self._filters_FM = self._window.to(device), self._filters_FM.to(device)
        return self

    def __call__(self, waveform_BS: torch.Tensor) -> torch.Tensor:
        """Give the spectra of all frames of S samples, padding included.

        Args:
            waveform_BS: In [-1, 1], at least 400 samples.

        Returns:
            float64 (B, T, M) with T = floor((S - 400) / hop_length) + 1.
        """
        frames_BTN = waveform_BS.unfold(1, SPECTRUM_WINDOW, self._hop_length).double() * self._scale
        frames_BTN -= frames_BTN.mean(dim=2, keepdim=True)
        earlier_BTN = torch.cat([frames_BTN[..., :1], frames_BTN[..., :-1]], dim=2)
        frames_BTN = (frames_BTN - PREEMPHASIS * earlier_BTN) * self._window
        power_BTF = torch.fft.rfft(frames_BTN, n=FFT_LENGTH).abs().square()
        mel_BTM: torch.Tensor = (power_BTF @ self._filters_FM).clamp(min=POWER_FLOOR).log()
        return mel_BTM


class StackedLogMel:
    """The input of Wav2Vec2Bert: log-mel spectra, 100 a second, normalised by bin and joined in pairs.

    The recipe of transformers' SeamlessM4TFeatureExtractor. Mean and variance of a bin are taken over all spectra
    of the utterance; one left over after pairing counts in them and is dropped.
    """

    def __init__(self, *, num_mel_bins: int, stride: int, sample_rate: int) -> None:
        """Make the window and the filters.

        Args:
            num_mel_bins: M.
            stride: Spectra joined to one frame.
            sample_rate: Hz.
        """
        self._log_mel = LogMel(
            num_mel_bins=num_mel_bins, hop_length=SPECTRUM_HOP, sample_rate=sample_rate, scale=2.0**15
        )
        self._stride = stride
        self._clock = Clock(sample_rate=sample_rate, hop_length=SPECTRUM_HOP, receptive_field=SPECTRUM_WINDOW)

    def to(self, device: torch.device) -> Self:
        """Move to a device."""
        self._log_mel.to(device)
        return self

    def __call__(self, waveform_BS: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the input of a batch.

        Args:
            waveform_BS: In [-1, 1].
            lengths: Samples of each row.

        Returns:
            float32 (B, T, stride M), and bool (B, T): False in padding, where the values are 0.
        """
        mel_BNM = self._log_mel(waveform_BS)
        counts_B = torch.tensor([self._clock.num_frames(length) for length in lengths])
        valid_BN = (torch.arange(mel_BNM.shape[1]) < counts_B[:, None]).to(mel_BNM.device)
        hidden_BN1, count_B11 = ~valid_BN[..., None], counts_B.to(mel_BNM.device)[:, None, None]
        mel_BNM -= mel_BNM.masked_fill(hidden_BN1, 0.0).sum(dim=1, keepdim=True) / count_B11
        squares_BNM = mel_BNM.square().masked_fill(hidden_BN1, 0.0)
        # Over n - 1, as the encoder was trained.
        mel_BNM /= (squares_BNM.sum(dim=1, keepdim=True) / (count_B11 - 1) + VARIANCE_FLOOR).sqrt()
        num_frames = mel_BNM.shape[1] // self._stride
        frames_BTM = mel_BNM[:, : num_frames * self._stride].reshape(len(lengths), num_frames, -1).float()
        valid_BT = valid_BN[:, self._stride - 1 :: self._stride][:, :num_frames]
        return frames_BTM.masked_fill(~valid_BT[..., None], 0.0), valid_BT
