"""Speaker similarity: the cosine of two speaker embeddings, 0 to 1.

The embeddings are those of Resemblyzer's network (three LSTMs of 256, trained with the generalised end-to-end loss).
Its package cannot be imported without others that have no wheel, so its weights are read here and its arithmetic is
repeated: mel powers, windows of 1.6 s, 1.3 per second, whose embeddings are averaged.

The network hears level, so each waveform is brought to -26 dB first; the package raises soft ones to -30 dB alone. 100
speakers of LibriSpeech, 4 s against 4 s of one utterance: equal error rate 0.010 here, 0.002 by the package's rule,
where the level of the recording tells some of them apart.

Cosines of *different* speakers are high (0.55 to 0.69 on average), because embeddings have no negative numbers: read a
similarity beside that of the same speaker's other utterances and that of other speakers. Emotion and noise lower it.

Source: Wan et al. 2018, Generalized end-to-end loss for speaker verification (arXiv 1710.10467); weights of Resemblyzer
0.1.4 (Apache 2.0).
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.metrics.speech.judge import Judge, Library, Measure, Pair, Score, Waveform
from pipeline.metrics.speech.levels import at_level, check_audible
from pipeline.metrics.speech.libraries import library, weights_path
from pipeline.metrics.speech.spectra import Frames, magnitudes, mel_filters

if TYPE_CHECKING:
    import torch

WEIGHTS = "resemblyzer/pretrained.pt"
INSTALL = "pip install --no-deps resemblyzer==0.1.4"
FRAMES = Frames(fft_length=400, hop_length=160, window_length=400)
MEL_BINS = 40
WINDOW, STEP = 160, 77
"""Frames of a window, and from one window to the next: 1.6 s, and 1.3 windows per second."""
WIDTH = 256
LEAST_SECONDS = 1.0
JUDGE = "the judge speaker"
_COVERED = 0.75
_AT_ONCE = 64


def speaker_library(who: str = JUDGE) -> Library:
    """Say which speaker encoder is installed. Needs no torch.

    Args:
        who: Who needs it, for the message.

    Raises:
        SettingsError: Resemblyzer's weights are not installed.
    """
    return library("resemblyzer", who=who, weights=WEIGHTS, install=INSTALL)


class SpeakerEncoder:
    """Gives the speaker embedding of a waveform.

    Args:
        device: Of the network, as torch names it.
        who: Who needs it, for the message.

    Raises:
        SettingsError: Resemblyzer's weights are not installed.
    """

    def __init__(self, device: str = "cpu", who: str = JUDGE) -> None:
        self.library = speaker_library(who)
        import torch

        path = weights_path("resemblyzer", WEIGHTS, who=who, install=INSTALL)
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self._device = torch.device(device)
        # Their first weights are random, and whoever trains has a random state of its own.
        with torch.random.fork_rng(devices=[]):
            self._lstm = torch.nn.LSTM(MEL_BINS, WIDTH, 3, batch_first=True)
            self._linear = torch.nn.Linear(WIDTH, WIDTH)
        for name, module in (("lstm", self._lstm), ("linear", self._linear)):
            mine = {key.removeprefix(f"{name}."): found for key, found in state.items() if key.startswith(f"{name}.")}
            module.load_state_dict(mine)
            module.to(self._device).eval().requires_grad_(False)

    def __call__(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Give the embedding (256,) of a waveform (S,) that is not silent: of length 1, nothing negative."""
        import torch

        windows_NTM = _windows(at_level(waveform))
        summed = np.zeros(WIDTH)
        for first in range(0, len(windows_NTM), _AT_ONCE):
            batch_BTM = torch.from_numpy(windows_NTM[first : first + _AT_ONCE]).to(self._device)
            summed += self._embed(batch_BTM).sum(0).double().cpu().numpy()
        return (summed / np.linalg.norm(summed)).astype(np.float32)

    def _embed(self, mel_BTM: "torch.Tensor") -> "torch.Tensor":
        import torch

        _, (hidden_LBD, _) = self._lstm(mel_BTM)
        return torch.nn.functional.normalize(torch.relu(self._linear(hidden_LBD[-1])), dim=1)


def _windows(waveform: Waveform) -> npt.NDArray[np.float32]:
    """Give mel powers in windows (N, 160, 40); the last one only where three quarters of it are heard."""
    hop = FRAMES.hop_length
    starts = list(range(0, max(1, len(waveform) // hop + 2 - WINDOW + STEP), STEP))
    if len(starts) > 1 and len(waveform) - starts[-1] * hop < _COVERED * WINDOW * hop:
        starts.pop()
    padded = np.pad(waveform, (0, max(0, (starts[-1] + WINDOW) * hop - len(waveform))))
    filters_FM = mel_filters(FRAMES, MEL_BINS)
    mel_TM = np.concatenate([np.square(block_TF) @ filters_FM for block_TF in magnitudes(padded, FRAMES)])
    return np.stack([mel_TM[start : start + WINDOW] for start in starts]).astype(np.float32)


class SpeakerSimilarity(Judge):
    """Judges by the voice.

    Args:
        device: Of the network, as torch names it.

    Raises:
        SettingsError: Resemblyzer's weights are not installed.
    """

    name = "speaker"
    measures = (Measure(name="speaker_similarity", unit="", higher_is_better=True),)
    same_times = False

    def __init__(self, device: str = "cpu") -> None:
        self._encode = SpeakerEncoder(device)
        self.library = self._encode.library

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.reference is not None
        check_audible(pair.reference, least_seconds=LEAST_SECONDS, what="the reference")
        check_audible(pair.generated, least_seconds=LEAST_SECONDS)
        cosine = np.dot(self._encode(pair.reference), self._encode(pair.generated).astype(np.float64))
        return Score(values={"speaker_similarity": float(cosine)})
