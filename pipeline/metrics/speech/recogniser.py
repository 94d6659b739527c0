"""WER and CER of a recogniser: what of the transcript it still understands; and dWER. English alone.

The differential WER is against what the same recogniser hears in the reference, instead of the transcript: what the
recogniser gets wrong anyway does not count, and no transcript is needed (Wang et al. 2021, arXiv 2110.00982).

Moonshine tiny, whose weights release 0.1.0 of moonshine-voice ships (later ones download them, so it is pinned). Its
voice activity detection is off: it invents words at beginnings, and drops soft speech. Silence is the empty hypothesis
and is not given to it, because it hears "You" there. Both sides pass through whisper's English rules, which turn a lone
"o" into 0 ("O'Brien" is "0 brien"): the same on both sides.

A figure is worth what the same recogniser makes of the originals: judge those too. Nothing is padded, since half a
second of zeros alone changes what it hears. It hears at most half a minute at once: of a minute it repeats the last
words over and over (measured: 257 words of 59 s that have 188), so longer speech is cut at its pauses.

Source: Jeffries et al. 2024, Moonshine (arXiv 2410.15608), package moonshine-voice (MIT).
"""

import hashlib
from collections import OrderedDict
from typing import Any

from pipeline.errors import UnjudgedError
from pipeline.metrics.error_rates import ErrorCounts, Unit, count_errors
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Reason, Score, Waveform
from pipeline.metrics.speech.levels import is_silent
from pipeline.metrics.speech.libraries import library, weights_path
from pipeline.metrics.speech.pauses import cut_at_pauses
from pipeline.metrics.spelling import english

FOLDER = "moonshine_voice/assets/tiny-en"
WEIGHTS = f"{FOLDER}/decoder_model_merged.ort"
INSTALL = "pip install moonshine-voice==0.1.0, as the extra strata-tokens[judges] does"
_UNITS: tuple[tuple[str, Unit], ...] = (("wer", "words"), ("cer", "characters"))
DIFFERENTIAL = "dwer"
_MOST_SECONDS = 30.0
_KEPT = 2
"""Utterances of which is kept what was heard: a reference stands beside several conditions in a row."""


class Recogniser:
    """Hears English speech.

    Raises:
        SettingsError: moonshine-voice is not installed, or is a release without weights.
    """

    def __init__(self) -> None:
        self.library = library("moonshine-voice", who="the judge recogniser", weights=WEIGHTS, install=INSTALL)
        folder = weights_path("moonshine-voice", WEIGHTS, who="the judge recogniser", install=INSTALL).parent
        from moonshine_voice import ModelArch
        from moonshine_voice.transcriber import Transcriber

        options = {"vad_threshold": "0.0"}
        self._heard: OrderedDict[bytes, str] = OrderedDict()
        self._transcriber: Any = Transcriber(model_path=str(folder), model_arch=ModelArch.TINY, options=options)

    def __call__(self, waveform: Waveform) -> str:
        """Give what is heard in a waveform (S,), as the recogniser writes it; nothing in silence."""
        if is_silent(waveform):
            return ""
        key = hashlib.sha256(waveform.tobytes()).digest()
        if key not in self._heard:
            self._heard[key] = self._transcribed(waveform)
            while len(self._heard) > _KEPT:
                self._heard.popitem(last=False)
        self._heard.move_to_end(key)
        return self._heard[key]

    def _transcribed(self, waveform: Waveform) -> str:
        lines = []
        for piece in cut_at_pauses(waveform, SAMPLE_RATE, most_seconds=_MOST_SECONDS):
            if not is_silent(piece):
                lines += self._transcriber.transcribe_without_streaming(piece.tolist(), SAMPLE_RATE).lines
        return " ".join(line.text.strip() for line in lines)


class WordErrors(Judge):
    """Judges by what a recogniser hears.

    Raises:
        SettingsError: moonshine-voice or jiwer is not installed.
    """

    name = "recogniser"
    measures = tuple(
        Measure(name=name, unit="", higher_is_better=False, counted=True) for name in (*dict(_UNITS), DIFFERENTIAL)
    )
    texts = ("hypothesis",)
    needs_reference = False

    def __init__(self) -> None:
        self._hear = Recogniser()
        self.library = self._hear.library
        library("jiwer", who=f"the judge {self.name}")

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        if pair.text is None and pair.reference is None:
            raise UnjudgedError(Reason.NO_TEXT, "it has neither a transcript nor a reference")
        values: dict[str, ErrorCounts] = {}
        absent: dict[str, Reason] = {}
        original = None if pair.reference is None else self._hear(pair.reference)
        heard = self._hear(pair.generated)
        understood = [english(heard)]
        if pair.text is None:
            absent |= dict.fromkeys(dict(_UNITS), Reason.NO_TEXT)
        else:
            values |= {name: count_errors([english(pair.text)], understood, unit=unit)[0] for name, unit in _UNITS}
        if original is None:
            absent[DIFFERENTIAL] = Reason.NO_REFERENCE
        else:
            values[DIFFERENTIAL] = count_errors([english(original)], understood, unit="words")[0]
        return Score(values=values, absent=absent, texts={"hypothesis": heard})
