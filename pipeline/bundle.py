"""Everything that a tokenizer's folder holds, bound by hashes: tokenizer, vocoder, and what works on tokens between.

bundle = Bundle.from_pretrained("out/tokenizer")             # with vocoder/, se/ and tts/ inside
waveform = bundle.enhance(noisy, sample_rate=16_000)         # float32 (hop * T): noisy -> tokens -> clean tokens
waveform = bundle.speak("one two three")                     # float32 (hop * T): text -> tokens

Letters: S samples, T frames, Q residual stages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline import schema
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.store.storage import join
from pipeline.tasks.enhancement import ENHANCEMENT
from pipeline.tasks.enhancer import Enhancer
from pipeline.tasks.trained import SPEC, check_lineage
from pipeline.tasks.tts.settings import GenerationSettings
from pipeline.tasks.writer import TextWriter, ToWrite
from pipeline.tasks.writing import TTS, open_tts
from pipeline.tokenizer import Tokenizer
from pipeline.vocoder.choosing import choose_columns


class Bundle:
    """A tokenizer with its vocoder, the enhancement of its tokens, and what writes them for texts.

    Attributes:
        tokenizer: Speech to tokens and back.
        enhancer: Noisy tokens to clean ones; None where there is none.
        writer: Texts to tokens; None where there is none.
    """

    def __init__(self, tokenizer: Tokenizer, enhancer: Enhancer | None, writer: TextWriter | None) -> None:
        """Bind the parts.

        Raises:
            CodebookMismatchError: They do not belong together; the message names what differs.
            SettingsError: A layer that one part needs is none that the others have.
        """
        self.tokenizer, self.enhancer, self.writer = tokenizer, enhancer, writer
        for part in (enhancer, writer):
            if part is not None:
                # Of what is written, the layers that steps hear are those that they write.
                check_lineage(part.trained, _lineage(tokenizer), "the tokenizer")
                _check_said(tokenizer, part.trained.dataset.uri, part.said)

    @classmethod
    def from_pretrained(
        cls,
        folder: str,
        *,
        device: str = "cpu",
        threads: int = 1,
        vocoder: str | None = None,
        enhancement: str | None = None,
        tts: str | None = None,
        generation: GenerationSettings | None = None,
    ) -> Self:
        """Load a tokenizer's folder and what it holds.

        Args:
            folder: As ``Tokenizer.from_pretrained`` takes it.
            device: A torch device.
            threads: Compute threads of the encoder on CPU; the corpus job's default is 1.
            vocoder: The vocoder's folder; default: that inside the tokenizer's, where there is one.
            enhancement: The folder of a task se; default: that inside the tokenizer's, where there is one.
            tts: The folder of a task tts; default: that inside the tokenizer's, where there is one.
            generation: How tokens are written for texts.

        Raises:
            CodebookMismatchError: A part is of another encoder or other codebooks; the message names what differs.
            CorruptDatasetError: A part is damaged.
            DatasetError: A task's folder is something else, or not finished.
            SettingsError: A part is not there, a layer that one needs is none that the others have, or the tts cannot
                be guided as asked.
        """
        tokenizer = Tokenizer.from_pretrained(folder, device=device, threads=threads, vocoder=vocoder)
        enhancement, tts = _inside(folder, ENHANCEMENT, enhancement), _inside(folder, TTS, tts)
        return cls(
            tokenizer,
            None if enhancement is None else Enhancer(enhancement, device),
            None if tts is None else TextWriter(open_tts(tts), device, generation),
        )

    def choose_layers(self, layers: Sequence[int] = ()) -> tuple[int, ...]:
        """Give the layers that enhanced speech is spoken from; none asked for: all that are said and can be spoken.

        Raises:
            SettingsError: There is no vocoder or no enhancement, one of them does not know such a layer, or the vocoder
                never saw such a set.
        """
        enhancer, spec = self._enhancer(), self.tokenizer.vocoder
        if spec is None:
            return self.tokenizer.choose_layers(layers)
        columns = choose_columns(spec, spec.check_tokens(enhancer.said), tuple(layers))
        return tuple(layer for layer in self.tokenizer.layers if schema.layer_column(layer) in columns)

    def clean(self, tokens: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Give the clean tokens of noisy ones.

        Args:
            tokens: By layer, integers (T,), or (T, Q) with residual stages, as ``Tokenizer.encode`` gives them.

        Returns:
            uint16, in the same form, of each layer that the enhancement says.

        Raises:
            SettingsError: There is no enhancement, or a layer is none of the tokenizer's.
            ValueError: A layer is absent, layers differ in length, or an id is none of its codebook's.
        """
        return self._by_layer(self._enhancer()(self.tokenizer.by_column(tokens)))

    def write(self, text: str, *, speaker: str | None = None, key: str = "text") -> dict[int, np.ndarray]:
        """Give the tokens of a text.

        Args:
            text: The text.
            speaker: Who is to speak, where the task tts tells several apart.
            key: Its draws depend on it: the utterance id of ``speak``.

        Returns:
            uint16 (T,), or (T, Q) with residual stages, of each layer that is written.

        Raises:
            SettingsError: There is no text to speech, the text cannot be read, did not stop, or the speaker is absent
                or unknown; the message is one sentence.
        """
        writer = self._writer()
        if problem := writer.problem(text, speaker):
            raise SettingsError(f"the text cannot be spoken: {problem[1]}")
        (written,) = writer.write([ToWrite(key=key, text=text, speaker=speaker)])
        if problem := writer.endless(written):
            raise SettingsError(f"the text cannot be spoken: {problem[1]}")
        tokens = written.tokens.astype(np.uint16)
        return self._by_layer({column: tokens[:, place] for place, column in enumerate(writer.columns)})

    def speak(
        self, text: str, *, layers: Sequence[int] = (), speaker: str | None = None, voice: np.ndarray | None = None
    ) -> np.ndarray:
        """Speak a text.

        Args:
            text: The text.
            layers: Layers to speak from; default: all that are written and that the vocoder knows.
            speaker: Who is to speak, where text to speech or vocoder tell several apart.
            voice: For a vocoder that takes vectors, who is to be heard, in place of the speaker's own vector.

        Returns:
            float32 (hop_length * T) at the tokenizer's ``sample_rate``.

        Raises:
            SettingsError: As ``write`` and ``Tokenizer.decode``.
        """
        tokens = self.write(text, speaker=speaker if self._writer().speakers else None)
        spec = self.tokenizer.vocoder
        told = spec is not None and (spec.settings.speaker_input != "none" or not self._writer().speakers)
        who = voice if voice is not None else speaker if told else None
        return self.tokenizer.decode(tokens, layers=tuple(layers) or None, speaker=who)

    def _by_layer(self, said: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
        """Give tokens (T,) by column as ``Tokenizer.decode`` takes them."""
        stages: dict[int, list[np.ndarray]] = {}
        for book in self.tokenizer.codebooks:
            if book.column in said:
                stages.setdefault(book.layer, []).append(said[book.column])
        return {
            layer: found[0] if len(found) == 1 else np.stack(found, axis=1) for layer, found in sorted(stages.items())
        }

    def enhance(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        *,
        layers: Sequence[int] = (),
        speaker: str | np.ndarray | None = None,
    ) -> np.ndarray:
        """Speak a noisy recording again without its noise.

        Args:
            waveform: (S,) as ``Tokenizer.encode`` takes it.
            sample_rate: Its rate, Hz.
            layers: Layers to speak from; default: all that are said and that the vocoder knows.
            speaker: As ``Tokenizer.decode`` takes it; where the vocoder takes vectors, by default who speaks.

        Returns:
            float32 (hop_length * T) at the tokenizer's ``sample_rate``.

        Raises:
            FeatureError: It is too short for one frame.
            SettingsError: There is no vocoder or no enhancement, or layers or speaker are none that they know.
            TypeError: The waveform is neither floats nor int16.
            ValueError: The waveform is not (S,), or not finite as float32.
        """
        chosen = self.choose_layers(layers)
        cleaned = self.clean(self.tokenizer.encode(waveform, sample_rate))
        spec = self.tokenizer.vocoder
        if speaker is None and spec is not None and spec.settings.speaker_input == "vector":
            speaker = self.tokenizer.speaker_vector(waveform, sample_rate)
        return self.tokenizer.decode(cleaned, layers=chosen, speaker=speaker)

    def _enhancer(self) -> Enhancer:
        if self.enhancer is None:
            raise SettingsError(
                "this tokenizer's folder holds no enhancement; train one with `train_task --task se --output "
                f"FOLDER/{ENHANCEMENT}`, or give another one's folder: --task, or "
                "from_pretrained(..., enhancement=FOLDER)"
            )
        return self.enhancer

    def _writer(self) -> TextWriter:
        if self.writer is None:
            raise SettingsError(
                f"this tokenizer's folder holds no text to speech; train one with `train_task --task tts --output "
                f"FOLDER/{TTS}`, or give another one's folder: from_pretrained(..., tts=FOLDER)"
            )
        return self.writer


def _inside(folder: str, name: str, given: str | None) -> str | None:
    """Give the folder of a part: the one that was given, or that inside the tokenizer's, where there is one."""
    if given is None and (Path(folder) / name / SPEC).exists():
        return join(folder, name)
    return given


def _lineage(tokenizer: Tokenizer) -> dict[str, Any]:
    """Give what a tokens dataset of this tokenizer would say of itself."""
    return {
        "encoder_sha256": tokenizer.encoder_sha256,
        "codebooks": {book.column: book.sha256 for book in tokenizer.codebooks},
        "num_clusters": {book.column: book.num_clusters for book in tokenizer.codebooks},
    }


def _check_said(tokenizer: Tokenizer, uri: str, lineage: Mapping[str, Any]) -> None:
    """Refuse a part that says tokens which tokenizer and vocoder do not know, or half of a layer's stages."""
    books, said = _lineage(tokenizer)["codebooks"], lineage["codebooks"]
    if absent := [column for column in said if column not in books]:
        raise SettingsError(f"{uri} says {', '.join(said)}, and the tokenizer lacks {', '.join(absent)}")
    if other := [column for column in said if books[column] != said[column]]:
        told = "; ".join(f"codebook of {name} {said[name][:12]} there, {books[name][:12]} here" for name in other)
        raise CodebookMismatchError(
            f"{uri} says other tokens than the tokenizer's: {told}; train it on tokens of these codebooks"
        )
    layers = {book.layer for book in tokenizer.codebooks if book.column in said}
    if half := [book.column for book in tokenizer.codebooks if book.layer in layers and book.column not in said]:
        raise SettingsError(
            f"{uri} says {', '.join(said)}, and a layer is heard with all its residual "
            f"stages; it lacks {', '.join(half)}"
        )
    if tokenizer.vocoder is not None:
        tokenizer.vocoder.check_tokens(lineage)
