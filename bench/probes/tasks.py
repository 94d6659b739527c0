"""The tasks of bench/probes.py: which recordings, which label of each, and who is trained and tested on.

Splits depend on what recordings are called and on nothing else, so every system meets the same ones. No recording of a
fold is on both of its sides; where a task is about people never heard, neither is a speaker.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.small_corpus import (
    KEPT_OUT_DIGIT_SPEAKER,
    KEPT_OUT_TAKES,
    Recording,
    digits,
    is_kept_out,
    kept_out_readers,
    readers,
)
from pipeline.errors import SettingsError

CORPUS_OF = {
    "digit": "fsdd",
    "digit_new_speaker": "fsdd",
    "speaker": "fsdd",
    "emotion": "emodb",
    "sex": "librispeech",
}
"""The tasks, and the corpus of each."""
INFORMED = ("digit", "digit_new_speaker", "speaker")
"""Those whose labels I(token; label) is asked of."""

Side = Callable[[Recording], bool | None]
"""Whether a recording is tested on; False where it is trained on, None where it is neither."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One training and one test.

    Attributes:
        train: Places of the training recordings, ascending.
        test: Places of the test recordings, ascending.
    """

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is to be told from one utterance.

    Attributes:
        name: A key of ``CORPUS_OF``.
        classes: What labels stand for, sorted.
        labels: int64 (N,), the class of each recording; -1 where it has none.
        folds: Their tests together are the test set.
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray
    folds: tuple[Fold, ...]

    @property
    def majority(self) -> float:
        """Accuracy of always naming the most frequent class of the training recordings."""
        right = [self.labels[fold.test] == np.bincount(self.labels[fold.train]).argmax() for fold in self.folds]
        return float(np.concatenate(right).mean())


def emotional(data: Path) -> list[Recording]:
    """List the utterances of EmoDB, sorted by name."""
    paths = sorted((data / "emodb" / "wav").glob("*.wav"))
    return [Recording(path=path, corpus="emodb", speaker=path.stem[:2]) for path in paths]


def recordings_of(corpora: set[str], data: Path) -> list[Recording]:
    """List the recordings of some corpora.

    Args:
        corpora: Of ``fsdd``, ``emodb`` and ``librispeech``.
        data: Folder of all of them.

    Raises:
        SettingsError: One of them has none.
    """
    found: list[Recording] = []
    for name, listing in (("fsdd", digits), ("emodb", emotional), ("librispeech", readers)):
        if name in corpora:
            own = listing(data)
            if not own:
                raise SettingsError(f"{data} holds no recordings of {name}; set STRATA_TEST_DATA or give --data")
            found += own
    return found


def heard_by_training(recordings: Sequence[Recording]) -> np.ndarray:
    """Say which recordings of FSDD and LibriSpeech an encoder that ships was trained on, bool (N,)."""
    apart = kept_out_readers([each for each in recordings if each.corpus == "librispeech"])
    return np.array([each.corpus != "emodb" and not is_kept_out(each, apart) for each in recordings])


def parse_sexes(text: str) -> dict[str, str]:
    """Read LibriSpeech's SPEAKERS.TXT: the sex of each reader, by number."""
    rows = [line.split("|") for line in text.splitlines() if line.strip() and not line.startswith(";")]
    return {row[0].strip(): row[1].strip() for row in rows}


def make_tasks(names: Sequence[str], recordings: Sequence[Recording], sexes: Mapping[str, str]) -> list[Task]:
    """Make tasks.

    Args:
        names: Keys of ``CORPUS_OF``.
        recordings: N of them, of all corpora of these tasks.
        sexes: F or M by reader of LibriSpeech; needed for the task ``sex`` alone.

    Raises:
        SettingsError: A fold of one has nobody to train or to test on.
    """
    apart = kept_out_readers([each for each in recordings if each.corpus == "librispeech"])
    actors = sorted({each.speaker for each in recordings if each.corpus == "emodb"})
    digit = _digit_labels(recordings)
    made = {
        "digit": lambda: _task("digit", digit, recordings, [_early_take]),
        "digit_new_speaker": lambda: _task("digit_new_speaker", digit, recordings, [_kept_out_speaker]),
        "speaker": lambda: _task("speaker", _speaker_labels(recordings), recordings, [_early_take]),
        "emotion": lambda: _task("emotion", _emotions(recordings), recordings, [_actor(actor) for actor in actors]),
        "sex": lambda: _task("sex", _sexes(recordings, sexes), recordings, [_reader(apart)]),
    }
    return [made[name]() for name in names]


def _early_take(recording: Recording) -> bool | None:
    return None if recording.take is None else recording.take < KEPT_OUT_TAKES


def _kept_out_speaker(recording: Recording) -> bool | None:
    return None if recording.take is None else recording.speaker == KEPT_OUT_DIGIT_SPEAKER


def _actor(actor: str) -> Side:
    return lambda recording: None if recording.corpus != "emodb" else recording.speaker == actor


def _reader(apart: set[str]) -> Side:
    return lambda recording: None if recording.corpus != "librispeech" else recording.speaker in apart


def _digit_labels(recordings: Sequence[Recording]) -> list[str | None]:
    return [None if each.digit is None else str(each.digit) for each in recordings]


def _speaker_labels(recordings: Sequence[Recording]) -> list[str | None]:
    return [each.speaker if each.corpus == "fsdd" else None for each in recordings]


def _emotions(recordings: Sequence[Recording]) -> list[str | None]:
    return [each.path.stem[5] if each.corpus == "emodb" else None for each in recordings]


def _sexes(recordings: Sequence[Recording], sexes: Mapping[str, str]) -> list[str | None]:
    if unknown := {each.speaker for each in recordings if each.corpus == "librispeech"} - sexes.keys():
        raise SettingsError(f"task sex: SPEAKERS.TXT does not say the sex of readers {sorted(unknown)}")
    return [sexes[each.speaker] if each.corpus == "librispeech" else None for each in recordings]


def _task(name: str, found: Sequence[str | None], recordings: Sequence[Recording], sides: Sequence[Side]) -> Task:
    classes = tuple(sorted({each for each in found if each is not None}))
    numbers = {each: number for number, each in enumerate(classes)}
    folds = []
    for side in sides:
        tested = [side(recording) for recording in recordings]
        places = [np.array([at for at, each in enumerate(tested) if each is wanted]) for wanted in (False, True)]
        if not all(map(len, places)):
            raise SettingsError(f"task {name}: {len(places[0])} recordings to train on and {len(places[1])} to test on")
        folds.append(Fold(train=places[0], test=places[1]))
    if not folds:
        raise SettingsError(f"task {name}: there are no recordings of {CORPUS_OF[name]}")
    labels = np.array([-1 if each is None else numbers[each] for each in found])
    return Task(name=name, classes=classes, labels=labels, folds=tuple(folds))
