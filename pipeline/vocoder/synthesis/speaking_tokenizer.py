"""A tokenizer with the way back: a recording in, its tokens, and speech of any of their layers out.

tokenizer = SpeakingTokenizer.from_pretrained("out/tokenizer")       # its vocoder lies in out/tokenizer/vocoder
waveform = tokenizer.decode(tokenizer.encode(samples, 16_000), layers=(6,))

Letters: S samples, T frames, Q residual stages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.store.storage import join
from pipeline.tokens.tokenizer import Tokenizer
from pipeline.vocoder.saved import CONFIG, read_spec
from pipeline.vocoder.spec import VocoderSpec
from pipeline.vocoder.synthesis.choosing import choose_columns
from pipeline.vocoder.synthesis.settings import SpeakingSettings
from pipeline.vocoder.synthesis.voice import Said, Voice, stacked

VOCODER = "vocoder"
"""Where a tokenizer's folder holds its vocoder."""


class SpeakingTokenizer(Tokenizer):
    """A tokenizer and a vocoder of its codebooks; bound by hashes."""

    _voice: Voice
    _there: tuple[str, ...]

    @classmethod
    def from_pretrained(cls, folder: str, *, device: str = "cpu", threads: int = 1, vocoder: str | None = None) -> Self:
        """Load a tokenizer's folder and a vocoder.

        Args:
            folder: As ``Tokenizer.from_pretrained``.
            device: A torch device.
            threads: Compute threads of the encoder on CPU.
            vocoder: The vocoder's folder; default: that inside the tokenizer's.

        Raises:
            CodebookMismatchError: The vocoder was trained on other tokens; the message names what differs.
            SettingsError: There is no vocoder.
        """
        uri = vocoder if vocoder is not None else join(folder, VOCODER)
        if vocoder is None and not (Path(folder) / VOCODER / CONFIG).exists():
            raise SettingsError(
                f"{folder} holds no vocoder; copy the folder that train_vocoder wrote to {uri}, or give another one"
            )
        spec = read_spec(uri).spec
        made = super().from_pretrained(folder, device=device, threads=threads)
        books = {book.column: book.sha256 for book in made.codebooks}
        made._there = spec.check_tokens({"encoder_sha256": made.encoder_sha256, "codebooks": books})
        if (spec.sample_rate, spec.hop_length) != (made.sample_rate, made.hop_length):
            raise CodebookMismatchError(
                f"the vocoder speaks {spec.hop_length} samples per frame at {spec.sample_rate} Hz, and the tokenizer "
                f"hears {made.hop_length} at {made.sample_rate} Hz"
            )
        made._voice = Voice(uri, device, SpeakingSettings())
        return made

    @property
    def vocoder(self) -> VocoderSpec:
        """What the vocoder is made for."""
        return self._voice.spec

    def choose_layers(self, layers: Sequence[int] = ()) -> tuple[int, ...]:
        """Give the layers that are heard where these are asked for; none: all that tokenizer and vocoder share.

        Raises:
            SettingsError: The vocoder does not know one, or never saw such a set.
        """
        columns = choose_columns(self._voice.spec, self._there, tuple(layers))
        return tuple(layer for layer in self.layers if schema.layer_column(layer) in columns)

    def decode(
        self,
        tokens: Mapping[int, np.ndarray],
        *,
        layers: Sequence[int] | None = None,
        speaker: str | np.ndarray | None = None,
    ) -> np.ndarray:
        """Speak tokens.

        Args:
            tokens: By layer, integers (T,), or (T, Q) with residual stages, as ``encode`` gives them.
            layers: Layers to hear; default: all that are given and that the vocoder knows.
            speaker: A name for a vocoder with a table of speakers, a float vector (S,) for one that takes vectors;
                None for one voice.

        Returns:
            float32 (hop_length * T) at ``sample_rate``.

        Raises:
            SettingsError: No layer is given, the vocoder does not know one or never saw such a set, or the speaker is
                absent, too many, or unknown.
            ValueError: Layers differ in length, there is no frame, or an id is none of its codebook's.
        """
        spec = self._voice.spec
        given = {
            schema.token_column(layer, quantizer): column
            for layer, ids in tokens.items()
            for quantizer, column in enumerate(_columns(np.asarray(ids)))
        }
        if layers is not None and not layers:
            raise SettingsError(f"no layer is given; the vocoder speaks any of {', '.join(spec.columns)}")
        there = tuple(column for column in spec.columns if column in given)
        columns = choose_columns(spec, there, tuple(layers or ()))
        said = Said(tokens=stacked(given, spec, columns), speaker=self._speaker(speaker))
        ((_, waveform),) = self._voice.speak([said], columns)
        return waveform

    def _speaker(self, speaker: str | np.ndarray | None) -> int | np.ndarray | None:
        spec = self._voice.spec
        kind = spec.settings.speaker_input
        if kind == "none":
            if speaker is not None:
                raise SettingsError("this vocoder has one voice; give no speaker")
            return None
        if kind == "table":
            if speaker not in spec.speakers:
                raise SettingsError(f"the speaker {speaker!r} is none of the vocoder's: {', '.join(spec.speakers)}")
            return spec.speakers.index(str(speaker))
        if speaker is None or isinstance(speaker, str):
            raise SettingsError(f"this vocoder takes a vector (S,) of width {spec.settings.speaker_dim} as speaker")
        return np.asarray(speaker, np.float32)


def _columns(ids: np.ndarray) -> list[np.ndarray]:
    if ids.ndim not in (1, 2):
        raise ValueError(f"tokens of a layer are (T,) or (T, Q), got shape {ids.shape}")
    return [ids] if ids.ndim == 1 else list(ids.T)
