"""Everything that a tokenizer's folder holds, bound by hashes: tokenizer, vocoder, and what works on tokens between.

bundle = Bundle.from_pretrained("out/tokenizer")             # with vocoder/ and se/ inside
waveform = bundle.enhance(noisy, sample_rate=16_000)         # float32 (hop * T): noisy -> tokens -> clean tokens

What makes tokens of text will be a part like the others: a folder ``tts/`` beside ``se/``, bound in ``from_pretrained``
by its targets, and a method ``speak(text)`` beside ``enhance``. Letters: S samples, T frames, Q residual stages.
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
from pipeline.tokenizer import Tokenizer
from pipeline.vocoder.choosing import choose_columns


class Bundle:
    """A tokenizer with its vocoder, and the enhancement of its tokens.

    Attributes:
        tokenizer: Speech to tokens and back.
        enhancer: Noisy tokens to clean ones; None where there is none.
    """

    def __init__(self, tokenizer: Tokenizer, enhancer: Enhancer | None) -> None:
        """Bind the parts.

        Raises:
            CodebookMismatchError: They do not belong together; the message names what differs.
            SettingsError: A layer that one part needs is none that the others have.
        """
        self.tokenizer, self.enhancer = tokenizer, enhancer
        if enhancer is not None:
            _check_heard(tokenizer, enhancer)
            _check_said(tokenizer, enhancer)

    @classmethod
    def from_pretrained(
        cls,
        folder: str,
        *,
        device: str = "cpu",
        threads: int = 1,
        vocoder: str | None = None,
        enhancement: str | None = None,
    ) -> Self:
        """Load a tokenizer's folder and what it holds.

        Args:
            folder: As ``Tokenizer.from_pretrained`` takes it.
            device: A torch device.
            threads: Compute threads of the encoder on CPU; the corpus job's default is 1.
            vocoder: The vocoder's folder; default: that inside the tokenizer's, where there is one.
            enhancement: The folder of a task se; default: that inside the tokenizer's, where there is one.

        Raises:
            CodebookMismatchError: A part is of another encoder or other codebooks; the message names what differs.
            CorruptDatasetError: A part is damaged.
            DatasetError: The enhancement is something else, or not finished.
            SettingsError: A part is not there, or a layer that one needs is none that the others have.
        """
        tokenizer = Tokenizer.from_pretrained(folder, device=device, threads=threads, vocoder=vocoder)
        if enhancement is None and (Path(folder) / ENHANCEMENT / SPEC).exists():
            enhancement = join(folder, ENHANCEMENT)
        return cls(tokenizer, None if enhancement is None else Enhancer(enhancement, device))

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
        said = self._enhancer()(self.tokenizer.by_column(tokens))
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


def _lineage(tokenizer: Tokenizer) -> dict[str, Any]:
    """Give what a tokens dataset of this tokenizer would say of itself."""
    return {
        "encoder_sha256": tokenizer.encoder_sha256,
        "codebooks": {book.column: book.sha256 for book in tokenizer.codebooks},
        "num_clusters": {book.column: book.num_clusters for book in tokenizer.codebooks},
    }


def _check_heard(tokenizer: Tokenizer, enhancer: Enhancer) -> None:
    """Refuse an enhancement that hears other tokens than the tokenizer gives."""
    check_lineage(enhancer.trained, _lineage(tokenizer), "the tokenizer")


def _check_said(tokenizer: Tokenizer, enhancer: Enhancer) -> None:
    """Refuse an enhancement that says tokens which tokenizer and vocoder do not know, or half of a layer's stages."""
    books, said = _lineage(tokenizer)["codebooks"], enhancer.said["codebooks"]
    if absent := [column for column in said if column not in books]:
        raise SettingsError(
            f"{enhancer.trained.dataset.uri} says {', '.join(said)}, and the tokenizer lacks {', '.join(absent)}"
        )
    if other := [column for column in said if books[column] != said[column]]:
        told = "; ".join(f"codebook of {name} {said[name][:12]} there, {books[name][:12]} here" for name in other)
        raise CodebookMismatchError(
            f"{enhancer.trained.dataset.uri} says other tokens than the tokenizer's: {told}; train it on tokens of "
            "these codebooks"
        )
    layers = {book.layer for book in tokenizer.codebooks if book.column in said}
    if half := [book.column for book in tokenizer.codebooks if book.layer in layers and book.column not in said]:
        raise SettingsError(
            f"{enhancer.trained.dataset.uri} says {', '.join(said)}, and a layer is heard with all its residual "
            f"stages; it lacks {', '.join(half)}"
        )
    if tokenizer.vocoder is not None:
        tokenizer.vocoder.check_tokens(enhancer.said)
