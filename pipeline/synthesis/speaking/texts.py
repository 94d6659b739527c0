"""Texts to speak: lines of a file, or objects of a .jsonl; each has an id, and what cannot be read says why.

Memory: the whole file; an hour of speech is some 50 KB.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.audio.lines import Lines, LongLine
from pipeline.errors import SettingsError
from pipeline.schema import Reason
from pipeline.store.dataset import sha256
from pipeline.store.storage import open_store
from pipeline.tasks.tts.reading import Problem


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text to speak.

    Attributes:
        utterance_id: Its id: as given, or by the number of its line.
        text: It.
        speaker: Who is named with it.
        problem: Why it cannot be spoken, where the line says no text.
    """

    utterance_id: str
    text: str
    speaker: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Texts of a file.

    Attributes:
        uri: The file.
        sha256: Of its bytes.
        texts: In the order of the lines.
    """

    uri: str
    sha256: str
    texts: Sequence[Text]


def read_texts(uri: str) -> TextFile:
    """Read a file of texts, local or s3://.

    Raises:
        SettingsError: It is not there, or holds no line.
    """
    folder, _, name = uri.rpartition("/")
    try:
        data = open_store(folder or "/").read(name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise SettingsError(f"there is no file of texts at {uri}; give one, as texts.txt or texts.jsonl") from None
    objects = uri.lower().endswith(".jsonl")
    lines, found = Lines(io.BytesIO(data), returns=False), []
    while True:
        try:
            line: str | LongLine = next(lines)
        except StopIteration:
            break
        except LongLine as error:
            line = error
        found.append(_text(line, f"line-{lines.number:07d}", objects=objects))
    if not found:
        raise SettingsError(f"{uri} is empty: there is no text to speak")
    return TextFile(uri=uri, sha256=sha256(data), texts=_once(found))


def _text(line: str | LongLine, name: str, *, objects: bool) -> Text:
    if isinstance(line, LongLine):
        return _unread(name, str(line))
    if not _is_unicode(line):
        return _unread(name, "the line is not UTF-8")
    return _of_object(line, name) if objects else Text(utterance_id=name, text=line.strip())


def _unread(name: str, why: str) -> Text:
    return Text(utterance_id=name, text="", problem=(Reason.BAD_ROW, why))


def _is_unicode(value: str) -> bool:
    """Say whether a text can be written: halves of a pair of surrogates cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_object(line: str, name: str) -> Text:
    """Read a line of JSON."""
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        return _unread(name, f"the line is no JSON ({error})")
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        return _unread(name, 'the line is no object with a text, as {"text": "..."}')
    given, speaker = found.get("utterance_id"), found.get("speaker")
    for what, value in (("utterance_id", given), ("speaker", speaker)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            return _unread(name, f"{what} is no word: {value!r:.80}")
    for what, value in (("text", found["text"]), ("utterance_id", given), ("speaker", speaker)):
        if value is not None and not _is_unicode(value):
            return _unread(name, f"{what} has half a pair of surrogates, which is no character: {value!a:.80}")
    return Text(utterance_id=given or name, text=found["text"].strip(), speaker=speaker)


def _once(texts: Sequence[Text]) -> list[Text]:
    """Mark texts whose id came before."""
    seen: set[str] = set()
    found = []
    for number, text in enumerate(texts, start=1):
        if text.utterance_id in seen:
            problem = Reason.DUPLICATE_ID, f"the id {text.utterance_id} of line {number} is that of a line before"
            text = Text(utterance_id=f"{text.utterance_id} (line {number})", text=text.text, problem=problem)
        seen.add(text.utterance_id)
        found.append(text)
    return found
