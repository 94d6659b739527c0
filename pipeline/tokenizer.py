"""Speech to tokens and back without Ray: one folder holds the encoder, its codebooks, and a vocoder of them.

tokenizer = Tokenizer.from_pretrained("out/tokenizer")
tokens = tokenizer.encode(waveform, sample_rate=16_000)      # {2: uint16 (T,), 4: uint16 (T,), 6: uint16 (T,)}
waveform = tokenizer.decode(tokens, layers=(6,))             # float32 (hop * T); where the folder holds a vocoder

A layer of Q > 1 residual stages gives uint16 (T, Q). Letters: S samples, T frames, Q residual stages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.features.encoders.shipped import is_shipped
from pipeline.metrics.speech.judge import SAMPLE_RATE
from pipeline.store.storage import join
from pipeline.tokens.waveform_tokenizer import WaveformTokenizer, as_waveform
from pipeline.vocoder.choosing import choose_columns
from pipeline.vocoder.saved import CONFIG, VOCODER, read_spec
from pipeline.vocoder.settings import PREDICTED, SpeakingSettings
from pipeline.vocoder.shipped import NAME as SHIPPED_VOCODER
from pipeline.vocoder.speaker_vectors import Speaker, SpeakerVectors, known_speakers
from pipeline.vocoder.spec import VocoderSpec
from pipeline.vocoder.voice import Said, Voice, stacked


class Tokenizer(WaveformTokenizer):
    """An encoder, the codebooks of its layers, and a vocoder that speaks them; bound by hashes.

    Attributes:
        vocoder: What the vocoder is made for; None where there is none.
    """

    vocoder: VocoderSpec | None = None
    _voice: Voice
    _there: tuple[str, ...]
    _known: Mapping[str, Speaker]
    _vectors: SpeakerVectors | None

    @classmethod
    def from_pretrained(cls, folder: str, *, device: str = "cpu", threads: int = 1, vocoder: str | None = None) -> Self:
        """Load a tokenizer's folder, and a vocoder where there is one.

        Args:
            folder: Local folder that run_pipeline wrote, or ``encoder-small``, the one that ships.
            device: A torch device.
            threads: Compute threads of the encoder on CPU; the corpus job's default is 1.
            vocoder: The vocoder's folder, local or s3://; default: that inside the tokenizer's, where there is one; of
                ``encoder-small`` the one that ships.

        Raises:
            CodebookMismatchError: It is no such folder, its parts do not belong together, or the vocoder was trained
                on other tokens; the message names what differs.
            SettingsError: The vocoder that was given is not there.
        """
        made = super().from_pretrained(folder, device=device, threads=threads)
        if vocoder is None and is_shipped(folder):
            vocoder = SHIPPED_VOCODER
        elif vocoder is None and (Path(folder) / VOCODER / CONFIG).exists():
            vocoder = join(folder, VOCODER)
        if vocoder is not None:
            made._take(vocoder, device)
        return made

    def _take(self, uri: str, device: str) -> None:
        spec = read_spec(uri).spec
        books = {book.column: book.sha256 for book in self.codebooks}
        self._there = spec.check_tokens({"encoder_sha256": self.encoder_sha256, "codebooks": books})
        if (spec.sample_rate, spec.hop_length) != (self.sample_rate, self.hop_length):
            raise CodebookMismatchError(
                f"the vocoder speaks {spec.hop_length} samples per frame at {spec.sample_rate} Hz, and the tokenizer "
                f"hears {self.hop_length} at {self.sample_rate} Hz"
            )
        self._voice = Voice(uri, device, SpeakingSettings())
        self._known, self._vectors = known_speakers(uri, spec), None
        self.vocoder = spec

    def choose_layers(self, layers: Sequence[int] = ()) -> tuple[int, ...]:
        """Give the layers that are heard where these are asked for; none: all that tokenizer and vocoder share.

        Raises:
            SettingsError: There is no vocoder, it does not know one, or it never saw such a set.
        """
        columns = choose_columns(self._spec(), self._there, tuple(layers))
        return tuple(layer for layer in self.layers if schema.layer_column(layer) in columns)

    def decode(
        self,
        tokens: Mapping[int, np.ndarray],
        *,
        layers: Sequence[int] | None = None,
        speaker: str | np.ndarray | None = None,
        durations: Literal["given", "predicted"] = "given",
    ) -> np.ndarray:
        """Speak tokens.

        Args:
            tokens: By layer, integers (T,), or (T, Q) with residual stages, as ``encode`` gives them.
            layers: Layers to hear; default: all that are given and that the vocoder knows.
            speaker: A name for a vocoder with a table of speakers; for one that takes vectors, a float vector as
                ``speaker_vector`` gives it, or a name that its folder knows; None for one voice.
            durations: ``predicted`` for deduplicated tokens, as a unit language model makes them: each run of equal
                tokens lasts as long as the vocoder predicts, so T is of that.

        Returns:
            float32 (hop_length * T) at ``sample_rate``.

        Raises:
            SettingsError: There is no vocoder, no layer is given, the vocoder does not know one or never saw such a
                set, the speaker is absent, too many, or unknown, or the vocoder predicts no durations.
            ValueError: Layers differ in length, there is no frame, or an id is none of its codebook's.
        """
        spec = self._spec()
        given = self.by_column(tokens)
        if layers is not None and not layers:
            raise SettingsError(f"no layer is given; the vocoder speaks any of {', '.join(spec.columns)}")
        there = tuple(column for column in spec.columns if column in given)
        columns = choose_columns(spec, there, tuple(layers or ()))
        if durations not in ("given", PREDICTED):
            raise SettingsError(f"durations must be given or predicted, got {durations!r}")
        said = Said(tokens=stacked(given, spec, columns), speaker=self._speaker(speaker))
        if durations == PREDICTED:
            said = self._voice.timed(said, columns)
        ((_, waveform),) = self._voice.speak([said], columns)
        return waveform

    def speaker_vector(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Give the vector of who speaks a recording, for ``decode`` with a vocoder that takes vectors.

        Args:
            waveform: As ``encode`` takes it; a few seconds or more of one speaker.
            sample_rate: Its rate, Hz; resampled to 16 kHz where it differs.

        Returns:
            float32 (256,) of length 1; 0 where the recording is silent.

        Raises:
            TypeError: The waveform is neither floats nor int16.
            ValueError: The waveform is not (S,), or not finite as float32.
            SettingsError: There is no vocoder, it takes no vectors, or its speaker encoder is not installed.
        """
        spec = self._spec()
        if spec.settings.speaker_input != "vector":
            raise SettingsError("this vocoder takes no vectors as speakers, and so has no use for one")
        samples = as_waveform(waveform, sample_rate, SAMPLE_RATE)
        if self._vectors is None:
            self._vectors = SpeakerVectors(spec.speaker_encoder)
        return self._vectors(samples)

    def by_column(self, tokens: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Give tokens as a tokens dataset has them: (T,) by column, residual stages each for itself.

        Args:
            tokens: By layer, integers (T,), or (T, Q) with residual stages, as ``encode`` gives them.

        Raises:
            SettingsError: A layer is none of the tokenizer's.
            ValueError: Tokens of a layer are of another shape.
        """
        return {
            schema.token_column(layer, quantizer): column
            for layer, ids in tokens.items()
            for quantizer, column in enumerate(self._stages(layer, np.asarray(ids)))
        }

    def _stages(self, layer: int, ids: np.ndarray) -> list[np.ndarray]:
        """Give the ids of each residual stage of a layer, (T,)."""
        if layer not in self.num_quantizers:
            known = ", ".join(map(str, self.layers))
            raise SettingsError(f"tokens are given by the layer's number, any of {known}; got {layer!r}")
        stages = self.num_quantizers[layer]
        if ids.ndim == 1 and stages == 1:
            return [ids]
        if ids.ndim != 2 or ids.shape[1] != stages:
            wanted = "(T,)" if stages == 1 else f"(T, {stages})"
            raise ValueError(f"tokens of layer {layer} are {wanted}, one utterance, got shape {ids.shape}")
        return list(ids.T)

    def _spec(self) -> VocoderSpec:
        if self.vocoder is None:
            raise SettingsError(
                "this tokenizer's folder holds no vocoder; train one with `train_vocoder --output FOLDER/vocoder`, or "
                "give another one's folder: --vocoder, or from_pretrained(..., vocoder=FOLDER)"
            )
        return self.vocoder

    def _speaker(self, speaker: str | np.ndarray | None) -> int | np.ndarray | None:
        spec = self._spec()
        kind = spec.settings.speaker_input
        if kind == "none":
            if speaker is not None:
                raise SettingsError("this vocoder has one voice; give no speaker")
            return None
        if kind == "table":
            return spec.speakers.index(self._known_name(speaker, "give one by name"))
        width = spec.settings.speaker_dim
        vectors = f"give a vector (S,) of width {width}, as speaker_vector and --speaker-reference make it"
        if speaker is None or isinstance(speaker, str):
            return self._known[self._known_name(speaker, vectors)]
        if np.shape(speaker) != (width,):
            raise SettingsError(f"this vocoder was given a speaker of shape {np.shape(speaker)}; {vectors}")
        vector = np.asarray(speaker, np.float32)
        if not np.isfinite(vector).all():
            raise SettingsError("the speaker's vector holds values that are not finite")
        return vector

    def _known_name(self, speaker: object, otherwise: str) -> str:
        """Give a name that the vocoder knows; refuse another, or none."""
        names = self._spec().speakers
        if isinstance(speaker, str) and speaker in names:
            return speaker
        what = {type(None): "no speaker", str: f"the speaker {speaker}"}.get(type(speaker), "a vector")
        known = f" (it knows {', '.join(names[:5])}{' and others' if len(names) > 5 else ''})" if names else ""
        raise SettingsError(f"this vocoder needs to be told who speaks, and was given {what}; {otherwise}{known}")
