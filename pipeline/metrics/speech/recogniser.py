"""WER and CER of a recogniser: what of the transcript it still understands. English alone.

Moonshine tiny, whose weights release 0.1.0 of moonshine-voice ships (later ones download them, so it is pinned). Its
voice activity detection is off: it invents words at beginnings, and drops soft speech. Silence is the empty hypothesis
and is not given to it, because it hears "You" there. Both sides pass through whisper's English rules, which turn a lone
"o" into 0 ("O'Brien" is "0 brien"): the same on both sides.

A figure is worth what the same recogniser makes of the originals: judge those too. Nothing is padded, since half a
second of zeros alone changes what it hears.

Source: Jeffries et al. 2024, Moonshine (arXiv 2410.15608), package moonshine-voice (MIT).
"""

from typing import Any

from pipeline.metrics.error_rates import Unit, count_errors
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Score, Waveform
from pipeline.metrics.speech.levels import is_silent
from pipeline.metrics.speech.libraries import library, weights_path
from pipeline.metrics.spelling import english

FOLDER = "moonshine_voice/assets/tiny-en"
WEIGHTS = f"{FOLDER}/decoder_model_merged.ort"
INSTALL = "pip install moonshine-voice==0.1.0, as the extra strata-tokens[judges] does"
_UNITS: tuple[tuple[str, Unit], ...] = (("wer", "words"), ("cer", "characters"))


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
        self._transcriber: Any = Transcriber(model_path=str(folder), model_arch=ModelArch.TINY, options=options)

    def __call__(self, waveform: Waveform) -> str:
        """Give what is heard in a waveform (S,), as the recogniser writes it; nothing in silence."""
        if is_silent(waveform):
            return ""
        found = self._transcriber.transcribe_without_streaming(waveform.tolist(), SAMPLE_RATE)
        return " ".join(line.text.strip() for line in found.lines)


class WordErrors(Judge):
    """Judges by what a recogniser hears.

    Raises:
        SettingsError: moonshine-voice or jiwer is not installed.
    """

    name = "recogniser"
    measures = tuple(Measure(name=name, unit="", higher_is_better=False, counted=True) for name, _ in _UNITS)
    texts = ("hypothesis",)
    needs_reference = False
    needs_text = True

    def __init__(self) -> None:
        self._hear = Recogniser()
        self.library = self._hear.library
        library("jiwer", who=f"the judge {self.name}")

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        assert pair.text is not None
        heard = self._hear(pair.generated)
        said, understood = [english(pair.text)], [english(heard)]
        values = {name: count_errors(said, understood, unit=unit)[0] for name, unit in _UNITS}
        return Score(values=values, texts={"hypothesis": heard})
