"""Text to speech made for a corpus: what is counted of its labels, and the task that follows."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN, VALIDATION
from pipeline.batches.survey import Parts
from pipeline.errors import SettingsError
from pipeline.store.dataset import Dataset
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.asr.text import CHARACTERS, build_alphabet, check_characters, spelling, transcript_parts
from pipeline.tasks.division import Division
from pipeline.tasks.tts.settings import TtsSettings
from pipeline.tasks.tts.task import TtsTask

logger = logging.getLogger(__name__)

_SYMBOLS, _SPEAKERS = "symbols", "speakers"
_EMPTY = ""


def spoken_parts(text: TextSettings, tts: TtsSettings) -> tuple[Parts, ...]:
    """Say what is counted of labels: utterances with each character, characters in all, texts without any, speakers."""
    spell = spelling(text)
    symbols = Parts(name=_SYMBOLS, column="text", of=lambda said: list(spell(said)) or [_EMPTY])
    speakers = Parts(name=_SPEAKERS, column="speaker", of=lambda speaker: [speaker])
    named = tts.speaker_input == "table"
    return (*transcript_parts(text), symbols, *([speakers] if named else []))


def make_tts(
    text: TextSettings, tts: TtsSettings, tokens: Dataset, layers: Sequence[int], manifest: Manifest, division: Division
) -> TtsTask:
    """Make the task of a corpus.

    Args:
        text: What texts are made of.
        tts: The network.
        tokens: What is written.
        layers: Layers of it; none: all.
        manifest: The texts, and who speaks.
        division: Its sides, with what ``spoken_parts`` counts.

    Raises:
        SettingsError: Texts have characters outside a given alphabet, no text has any, they are to be read as pieces of
            a BPE, or a side has a speaker whom training never has.
    """
    lineage = tokens.plan.lineage
    sizes: Mapping[str, int] = lineage["num_clusters"]
    columns = tuple(map(schema.layer_column, layers)) or tuple(sizes)
    train, validation = division.facts[TRAIN], division.facts.get(VALIDATION)
    characters = train.counts_of(CHARACTERS)
    alphabet = build_alphabet(text, characters, {})
    heard = {} if validation is None else validation.counts_of(CHARACTERS)
    check_characters(alphabet, Counter(characters) + Counter(heard))
    counts = train.counts_of(_SYMBOLS)
    if counts.get(_EMPTY):
        logger.warning(
            "%s has %d texts without a character in training: their speech is learned from nothing",
            manifest.dataset.uri,
            counts[_EMPTY],
        )
    spoken = train.utterances - train.unlabelled["text"]
    # Each text has its end as a symbol too.
    symbols = spoken + sum(count for symbol, count in counts.items() if symbol in alphabet.characters)
    frames = train.seconds * spoken / train.utterances * lineage["sample_rate"] / lineage["hop_length"]
    return TtsTask(
        settings=tts,
        alphabet=alphabet,
        columns=columns,
        num_clusters=tuple(int(sizes[column]) for column in columns),
        frames_per_symbol=frames / symbols,
        speakers=_speakers(manifest, division) if tts.speaker_input == "table" else (),
    )


def _speakers(manifest: Manifest, division: Division) -> tuple[str, ...]:
    """Give the speakers of training, and refuse a side that has others: there is no vector of them."""
    there = division.facts[TRAIN].counts_of(_SPEAKERS)
    if not there:
        raise SettingsError(
            f"{manifest.dataset.uri} names no speaker in training, which --speaker-input table needs; leave it out"
        )
    for side in (VALIDATION, *division.tests):
        facts = division.facts.get(side)
        new = {} if facts is None else {k: v for k, v in facts.counts_of(_SPEAKERS).items() if k not in there}
        if new:
            told = ", ".join(sorted(new)[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            raise SettingsError(
                f"{manifest.dataset.uri}: {side} has speaker {told}, which training never has (utterances: "
                f"{sum(new.values())}); leave them out, or take --speaker-input none"
            )
    return tuple(sorted(there))
