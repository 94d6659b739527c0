"""Speaker vectors: who speaks a recording, as a vocoder with ``speaker_input`` vector is told.

The vector of a recording is the speaker encoder's embedding of all of it, brought to one level, of length 1; what is
shorter than one of its windows, 1.6 s, is padded with zeros. A silent recording has no speaker, and its vector is 0: of
the speaker's part of a frame that leaves a bias, the same for every such recording. Time: 0.015 of real time on one
thread. Letters: S samples.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import SAMPLE_RATE, Library
from pipeline.metrics.speech.levels import is_silent
from pipeline.metrics.speech.speaker import INSTALL, WIDTH, SpeakerEncoder, speaker_library
from pipeline.vocoder.saved import read_voices
from pipeline.vocoder.spec import VocoderSpec

WHO = "speaker_input vector"

Speaker = int | np.ndarray
"""The number of a speaker in a table, or a vector float32 (256,)."""


def check_width(speaker_dim: int) -> None:
    """Refuse a vocoder whose vectors cannot be the speaker encoder's.

    Args:
        speaker_dim: Width that it takes.

    Raises:
        SettingsError: They are of another width.
    """
    if speaker_dim != WIDTH:
        raise SettingsError(
            f"speaker_input vector learns from the speaker encoder's vectors, which are {WIDTH} wide; got speaker_dim "
            f"{speaker_dim}"
        )


def find_encoder(sample_rate: int) -> Library:
    """Say which speaker encoder a vocoder is to be trained with. Needs no torch.

    Args:
        sample_rate: Of the recordings as the vocoder hears them, Hz.

    Raises:
        SettingsError: It is not installed, or hears another rate.
    """
    if sample_rate != SAMPLE_RATE:
        raise SettingsError(
            f"speaker_input vector hears recordings at {SAMPLE_RATE} Hz, and the tokens are of {sample_rate} Hz"
        )
    return speaker_library(WHO)


def check_encoder(bound: Library | None) -> Library:
    """Refuse another speaker encoder than the one that a vocoder was trained with. Needs no torch.

    Args:
        bound: The encoder of the vocoder's vectors, as its folder tells.

    Returns:
        The encoder that is installed.

    Raises:
        SettingsError: It is not installed, its weights are others, or the folder does not tell.
    """
    if bound is None:
        raise SettingsError(
            "the vocoder's folder does not say which speaker encoder its vectors are of; give Tokenizer.decode vectors "
            "of your own"
        )
    installed = speaker_library(WHO)
    if installed.weights_sha256 != bound.weights_sha256:
        raise SettingsError(
            f"the vocoder takes speaker vectors of {_told(bound)}, and {_told(installed)} is installed; install the "
            f"former, as with: {INSTALL}"
        )
    return installed


def _told(library: Library) -> str:
    return f"{library.name} {library.version} (weights {str(library.weights_sha256)[:12]})"


class SpeakerVectors:
    """Gives the vector of a recording.

    Args:
        bound: The encoder that the vocoder was trained with.
        device: Of the encoder, as torch names it.

    Raises:
        SettingsError: As ``check_encoder``.
    """

    def __init__(self, bound: Library | None, device: str = "cpu") -> None:
        check_encoder(bound)
        self._encode = SpeakerEncoder(device, who=WHO)

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Give float32 (256,) of a waveform, float32 (S,) at 16 kHz: of length 1, or 0 where it is silent."""
        if is_silent(waveform):
            return np.zeros(WIDTH, np.float32)
        with np.errstate(invalid="ignore"):
            vector = self._encode(waveform)
        # A window of which the network makes nothing at all has no direction.
        return vector if np.isfinite(vector).all() else np.zeros(WIDTH, np.float32)


def silent_reference(where: str) -> str:
    """Say that a recording cannot tell who is to speak."""
    return f"{where} is silent and says nothing of a speaker; give a recording of speech"


def known_speakers(uri: str, spec: VocoderSpec) -> Mapping[str, Speaker]:
    """Give the speakers that a saved vocoder knows by name.

    Args:
        uri: Its folder.
        spec: What it is made for.

    Returns:
        For a table the number of each; for vectors the mean vector of each; none for one voice.

    Raises:
        CorruptDatasetError: The vectors are damaged.
    """
    if spec.settings.speaker_input == "vector":
        return read_voices(uri)
    return {name: number for number, name in enumerate(spec.speakers)}
