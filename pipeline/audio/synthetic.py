"""A synthetic corpus of English speech from espeak-ng: transcripts, speakers and emotions for demos and tests.

Everything about an utterance is a function of (spec, index), its samples included, whatever was rendered before and
in whichever process. Voices and emotions take turns, so that each speaker says as much in each style.
Cost: 400 times faster than real time on one core (2-core virtual machine).
"""

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from pipeline.errors import ManifestError, SettingsError

SAMPLE_RATE = 22050
"""Of the rendered audio, Hz."""

# Variants without a "breath" line: with one (f2, f3, f5, Alicia), a fresh espeak-ng still breathed otherwise each time.
VARIANTS = (
    "f1",
    "m1",
    "linda",
    "m3",
    "f4",
    "m7",
    "Annie",
    "max",
    "steph",
    "m5",
    "Andrea",
    "Hugo",
    "belinda",
    "Denis",
    "aunty",
    "shelby",
)
LANGUAGE = "en"
"""The language of all sentences, as corpora name it."""

DIALECTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc")
PITCH_SHIFTS = (0, 10, -10)
MAX_VOICES = len(VARIANTS) * len(DIALECTS) * len(PITCH_SHIFTS)

_ROUNDS_BETWEEN_TESTS = 8
_FILES_IN_A_FOLDER = 1_000


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How an emotion sounds: words a minute; pitch shift and range, 0 to 99 around 50; volume, 100 is full."""

    rate: int
    pitch: int
    range: int
    volume: int


_STYLES: Mapping[str, _Style] = {
    "neutral": _Style(rate=165, pitch=0, range=50, volume=60),
    "happiness": _Style(rate=185, pitch=16, range=95, volume=70),
    "sadness": _Style(rate=135, pitch=-12, range=15, volume=40),
    "anger": _Style(rate=205, pitch=4, range=75, volume=85),
}
EMOTIONS = tuple(_STYLES)
"""The emotions of the corpus, in the words of the EmoDB reader."""

_GRAMMAR: Mapping[str, str] = {
    "who": (
        "the old baker,a young doctor,my sister,the tall farmer,our teacher,a quiet painter,the new captain,"
        "his brother,the busy nurse,a clever child,your neighbor,the tired driver,a brave sailor,the kind judge,"
        "her uncle,a strange poet,the first singer,a careful hunter,the village priest,our youngest cousin,"
        "the night guard,a famous dancer,the lazy student,an honest lawyer"
    ),
    "does": (
        "carries,counts,paints,forgets,finds,sells,hides,washes,throws,borrows,repairs,watches,collects,brings,"
        "moves,chooses,covers,drops,follows,remembers"
    ),
    "how_many": "one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve,twenty,thirty,fifty,a hundred",
    "kind": (
        "red,heavy,broken,silver,small,round,golden,empty,warm,wooden,yellow,cheap,dusty,bright,narrow,frozen,"
        "purple,thick,shiny,gray"
    ),
    "what": (
        "apple,bottle,candle,letter,basket,blanket,ladder,hammer,ticket,mirror,button,pillow,kettle,feather,wagon,"
        "jacket,barrel,lantern,shovel,guitar,window,pencil,anchor,helmet"
    ),
    "where": (
        "near the river,behind the church,in the garden,under the bridge,at the market,by the window,"
        "above the harbor,across the street,outside the school,beside the fire,on the mountain,in the kitchen,"
        "at the station,along the beach,between the trees,in the valley"
    ),
    "when": (
        "before dawn,every morning,after lunch,on sunday,at midnight,in the winter,this evening,once a year,"
        "during the storm,for an hour,without a word,with great joy"
    ),
}


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """Settings of a synthetic corpus; an utterance depends on the seed, the number of voices and its index."""

    num_utterances: int
    """Utterances to make."""
    seed: int = 0
    """Another seed gives other sentences."""
    num_voices: int = 12
    """Speakers, 2 to 288."""

    def __post_init__(self) -> None:
        if self.num_utterances < 1:
            raise SettingsError(f"num_utterances must be at least 1, got {self.num_utterances}")
        if not 2 <= self.num_voices <= MAX_VOICES:
            raise SettingsError(f"num_voices must be in [2, {MAX_VOICES}], got {self.num_voices}")


@dataclass(frozen=True, kw_only=True)
class SyntheticUtterance:
    """What to say and how.

    Attributes:
        index: Number in the corpus, from 0.
        utterance_id: Index and speaker, as ``0000042-voice006``.
        text: The words in lower case, without punctuation.
        speaker: As ``voice006``.
        emotion: One of ``EMOTIONS``.
        split: ``train`` or ``test``; each speaker is in both.
        voice: Name of the espeak-ng voice: a dialect, ``+``, a variant.
        rate: Words a minute.
        pitch: 0 to 99.
        pitch_range: 0 (monotone) to 99.
        volume: 100 is full; the strongest voices clip there.
    """

    index: int
    utterance_id: str
    text: str
    speaker: str
    emotion: str
    split: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    volume: int


def plan_utterance(spec: SyntheticSpec, index: int) -> SyntheticUtterance:
    """Choose the sentence, speaker, emotion and split of one utterance: a pure function of its arguments.

    Args:
        spec: The corpus.
        index: 0 to ``num_utterances`` - 1.
    """
    if not 0 <= index < spec.num_utterances:
        raise SettingsError(f"index must be in [0, {spec.num_utterances - 1}], got {index}")
    turn, voice = divmod(index, spec.num_voices)
    # The second term turns the emotions against the splits, so that every emotion of every speaker is in the test.
    emotion = EMOTIONS[(turn + turn // _ROUNDS_BETWEEN_TESTS) % len(EMOTIONS)]
    style = _STYLES[emotion]
    dialect, variant = divmod(voice, len(VARIANTS))
    shift = PITCH_SHIFTS[dialect // len(DIALECTS)]
    speaker = f"voice{voice:03d}"
    return SyntheticUtterance(
        index=index,
        utterance_id=f"{index:07d}-{speaker}",
        text=_sentence(spec.seed, index),
        speaker=speaker,
        emotion=emotion,
        split="test" if (turn + voice) % _ROUNDS_BETWEEN_TESTS == _ROUNDS_BETWEEN_TESTS - 1 else "train",
        voice=f"{DIALECTS[(dialect + variant) % len(DIALECTS)]}+{VARIANTS[variant]}",
        rate=style.rate,
        pitch=50 + style.pitch + shift,
        pitch_range=style.range,
        volume=style.volume,
    )


def _sentence(seed: int, index: int) -> str:
    """Make one of 7e8 sentences; a hash chooses, because no generator promises its numbers for all versions."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest(), "big")

    def choose(words: Sequence[str]) -> str:
        nonlocal number
        number, word = divmod(number, len(words))
        return words[word]

    word = {name: choose(words.split(",")) for name, words in _GRAMMAR.items()}
    plural = "" if word["how_many"] == "one" else "s"
    what = f"{word['how_many']} {word['kind']} {word['what']}{plural}"
    says = f"{word['who']} {word['does']} {what}"
    orders = (
        f"{says} {word['where']}",
        f"{says} {word['when']}",
        f"{word['when']} {says}",
        f"{word['where']} {says}",
        f"{says} {word['where']} {word['when']}",
    )
    return choose(orders)


# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4}
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

_one_at_a_time = threading.Lock()


def render(utterance: SyntheticUtterance) -> tuple[np.ndarray, int]:
    """Synthesise an utterance.

    Returns:
        Samples, int16 (S,), and their rate in Hz.

    Raises:
        ManifestError: espeak-ng is not installed, or cannot speak this voice.
    """
    loader = _loader()
    with _one_at_a_time:
        # espeak-ng keeps oscillators and filters in static variables that its own Terminate does not clear: after
        # other speech the same sentence had other samples. Loaded afresh, 3 ms, it always starts from zero.
        library = ctypes.CDLL(loader.get_library_path())
        try:
            data = _speak(library, loader.get_data_path(), utterance)
        finally:
            _unload(library)
    return np.frombuffer(data, dtype=np.int16), SAMPLE_RATE


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ManifestError(
            'the synthetic corpus needs espeak-ng; install it with: pip install "strata-tokens[demo]"'
        ) from error
    module: ModuleType = espeakng_loader
    return module


def _speak(library: ctypes.CDLL, data_path: str, utterance: SyntheticUtterance) -> bytes:
    pieces: list[bytes] = []

    def receive(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _Callback(receive)
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), 0)
    if rate != SAMPLE_RATE:
        raise ManifestError(f"espeak-ng did not start with the voices in {data_path} (it answered {rate})")
    try:
        library.espeak_SetSynthCallback(callback)
        failed = library.espeak_SetVoiceByName(utterance.voice.encode())
        for name, number in _PARAMETERS.items():
            failed |= library.espeak_SetParameter(number, getattr(utterance, name), 0)
        text = f"{utterance.text}.".encode()
        size = ctypes.c_size_t(len(text) + 1)
        failed |= library.espeak_Synth(text, size, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        failed |= library.espeak_Synchronize()
    finally:
        library.espeak_Terminate()
    if failed or not pieces:
        raise ManifestError(f"espeak-ng could not say {utterance.utterance_id} with the voice {utterance.voice}")
    return b"".join(pieces)


def _unload(library: ctypes.CDLL) -> None:
    dlclose = ctypes.CDLL(None).dlclose
    dlclose.argtypes = (ctypes.c_void_p,)
    dlclose(library._handle)


def write_utterances(
    spec: SyntheticSpec, indices: Iterable[int], folder: str | os.PathLike[str]
) -> list[dict[str, str]]:
    """Render utterances into 16-bit WAV files; writing them again gives the same bytes.

    Args:
        spec: The corpus.
        indices: Which utterances to write.
        folder: Root of the corpus, local; made if absent.

    Returns:
        Rows of the listing, in the order of ``indices``; their ``uri`` is relative to the folder.

    Raises:
        ManifestError: espeak-ng is not installed, or cannot speak a voice.
    """
    rows = []
    for index in indices:
        utterance = plan_utterance(spec, index)
        uri = f"audio/{index // _FILES_IN_A_FOLDER:04d}/{utterance.utterance_id}.wav"
        path = os.path.join(folder, uri)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        samples, sample_rate = render(utterance)
        soundfile.write(path, samples, sample_rate, subtype="PCM_16")
        rows.append(
            {
                "utterance_id": utterance.utterance_id,
                "uri": uri,
                "text": utterance.text,
                "speaker": utterance.speaker,
                "emotion": utterance.emotion,
                "language": LANGUAGE,
                "split": utterance.split,
            }
        )
    return rows


def write_listing(folder: str | os.PathLike[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Write ``listing.jsonl``, sorted by utterance, so that rows may come from tasks in any order.

    Args:
        folder: Root of the corpus.
        rows: What ``write_utterances`` returned, all of it.

    Returns:
        Path of the listing.
    """
    path = os.path.join(folder, "listing.jsonl")
    # Written aside first: an interrupted run leaves no half listing under the name that build_manifest opens.
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["utterance_id"]))
    os.replace(f"{path}.tmp", path)
    return path
