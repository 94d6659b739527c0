"""LJSpeech and the many corpora of its form: ``metadata.csv`` beside ``wavs/``.

    LJ001-0001|Printing, in the only sense|Printing, in the only sense

A line is an id, the text, and the text as it is spoken: numbers and abbreviations in words. There is no header, and
quotes are part of the text. The third field is the text where it is there, else the second.

Source: Ito and Johnson 2017, The LJ Speech Dataset, https://keithito.com/LJ-Speech-Dataset. Memory: a path for each
recording, as all of them lie in one folder.
"""

import re
from collections.abc import Iterator

from pipeline.audio.candidate import EXTENSIONS, Candidate, stem
from pipeline.audio.layouts.absent_table import without_table
from pipeline.audio.layouts.entries import entry, refused
from pipeline.audio.layouts.files import opened
from pipeline.audio.lines import Lines, LongLine
from pipeline.audio.walking import pass_over_file, require_folder, there_is, walk
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_TABLE = "metadata.csv"
_FOLDER = "wavs/"
_MOST_FIELDS = 3
# Only of these ids it is known who speaks, and in which language: the form has no column for either.
_OF_LJ = re.compile(r"LJ[0-9]{3}-[0-9]{4}")


def read_ljspeech(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus in the order of its table; an utterance is called as its file: ``LJ001-0001``."""
    require_folder(corpus)
    return _read(corpus, passed_over)


def _read(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    if not open_store(corpus).exists(_TABLE):
        raise without_table(corpus, "ljspeech", _TABLE, passed_over)
    files = _recordings(corpus, passed_over)
    unmet = set(files.values())
    empty, second_unread = True, False
    with opened(join(corpus, _TABLE)) as table:
        for number, line in Lines(table).numbered():
            empty = False
            cells = [] if isinstance(line, LongLine) else [cell.strip() for cell in line.split("|")]
            where = f"line {number} of {join(corpus, _TABLE)}"
            if not 1 < len(cells) <= _MOST_FIELDS or not cells[0]:
                told = str(line) if isinstance(line, LongLine) else _fault(cells)
                yield refused(f"@line{number}", "", where, AudioDecodeError(Reason.BAD_ROW, told))
                continue
            name = stem(cells[0])
            path = files.get(name, f"{_FOLDER}{name}.wav")
            unmet.discard(path)
            second_unread |= cells[-1] not in ("", cells[1])
            text = cells[-1] or cells[1]
            if not text:
                passed_over.add(Kind.WITHOUT_LABEL, example=path, name="text")
            speaker, language = ("LJ", "en") if _OF_LJ.fullmatch(name) else (None, None)
            labels = {"text": text, "speaker": speaker, "language": language}
            yield entry(name, path, corpus, where, labels=labels)
    if empty:
        raise ManifestError(f"the table {join(corpus, _TABLE)} has no rows")
    if second_unread:
        passed_over.add(Kind.UNREAD_COLUMNS, example=_TABLE, name="text before normalisation")
    for path in sorted(unmet):
        passed_over.add(Kind.UNLISTED_FILES, example=path)


def _recordings(corpus: str, passed_over: PassedOver) -> dict[str, str]:
    """Find the path of each recording by its name; of two of one name that which ends in .wav, as the layout has it."""
    found: dict[str, str] = {}
    for path in walk(corpus, passed_over):
        name = stem(path.removeprefix(_FOLDER))
        if path == _TABLE:
            continue
        if not path.lower().endswith(EXTENSIONS):
            pass_over_file(path, passed_over)
        elif not path.startswith(_FOLDER) or (name in found and not path.endswith(".wav")):
            passed_over.add(Kind.UNLISTED_FILES, example=path)
        else:
            if name in found:
                passed_over.add(Kind.UNLISTED_FILES, example=found[name])
            found[name] = path
    if not found:
        raise ManifestError(f"{corpus} holds no recordings in {_FOLDER}{there_is(passed_over)}")
    return found


def _fault(cells: list[str]) -> str:
    if 1 < len(cells) <= _MOST_FIELDS:
        return "it has no id"
    return f"{len(cells)} fields between bars; a row has an id, a text, and the text as it is spoken"
