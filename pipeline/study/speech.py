"""What enhancement and text to speech are judged by: their tokens are spoken, and heard by the study's own recogniser.

Token error rates of different tokens cannot be compared, and several tokens would often do as well. So the test is
spoken by the vocoder of the same tokens, layers and seed, made into tokens of the centre again, and recognised by the
asr of the centre with the same seed, which is one listener for all levels. A text that could not be spoken, or whose
speech is too short to be heard, counts as wholly wrong.
"""

import json
from dataclasses import dataclass

from pipeline.audio.loading import Manifest
from pipeline.enhancement.settings import EnhanceConfig
from pipeline.enhancement.stage import enhance
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.dataset import SUCCESS, Dataset
from pipeline.store.reading import read_unit
from pipeline.store.storage import open_store
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.stage import speak
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How the test of a trial is spoken and heard.

    Attributes:
        say: Settings of enhance, or of speak.
        manifest: Of the test, whose texts are spoken or expected.
        again: Settings of the tokens of what was spoken.
        listen: Settings of the recogniser's evaluation on these.
        min_frames: Utterances of fewer frames it leaves out.
        after: Keys of the trials that must be done before: the vocoder and the recogniser.
    """

    say: EnhanceConfig | SpeakConfig
    manifest: str
    again: TokenizeCorpusConfig
    listen: EvaluateConfig
    min_frames: int
    after: tuple[str, ...]


def hear(speech: Speech) -> None:
    """Speak and hear, as far as it is not done.

    Raises:
        PipelineError: What a stage raises.
    """
    if isinstance(speech.say, SpeakConfig):
        _write_texts(speech.manifest, str(speech.say.text_file))
        speak(speech.say)
    else:
        enhance(speech.say)
    tokenize_corpus(speech.again)
    if _longest(speech.again.output) >= speech.min_frames:
        evaluate(speech.listen)


def was_heard(speech: Speech) -> bool:
    """Say whether anything was long enough to be heard."""
    return open_store(speech.listen.output).exists(SUCCESS)


def _longest(tokens: str) -> int:
    """Give the frames of the longest utterance; 0 where there is none."""
    dataset = Dataset.open(tokens, kind="tokens")
    found = [read_unit(dataset, unit)["num_frames"].to_pylist() for unit in dataset.plan.units]
    return max((max(frames, default=0) for frames in found), default=0)


def expected(manifest: str) -> dict[str, str]:
    """Give the text of each utterance of a test, by its id."""
    return {str(row["utterance_id"]): row["text"] for row in _rows(manifest) if row["text"] is not None}


def _write_texts(manifest: str, uri: str) -> None:
    """Write what is to be said, and who says it, as a file that speak reads."""
    folder, _, name = uri.rpartition("/")
    store = open_store(folder)
    if not store.exists(name):
        lines = [json.dumps(row) + "\n" for row in _rows(manifest) if row["text"] is not None]
        store.write(name, "".join(lines).encode())


def _rows(manifest: str) -> list[dict[str, str | None]]:
    wanted = ["utterance_id", "text", "speaker"]
    return [row for _, rows in Manifest(manifest).scan(wanted) for row in rows.select(wanted).to_pylist()]
