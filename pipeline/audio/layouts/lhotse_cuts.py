"""Cuts of lhotse: lines of a CutSet become candidates, wherever their audio lies.

    {"type": "MonoCut", "id": ..., "start": 1.5, "duration": 2.0, "channel": 0, "supervisions": [...], "recording":
    {"sampling_rate": 16000, "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], ...}}

Begin and length are whole samples at the recording's rate, rounded as lhotse rounds, so that a cut is here what
``cut.load_audio()`` gives. Source: https://lhotse.readthedocs.io (Cuts; Recordings). Memory: a line.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, shown
from pipeline.audio.layouts.entries import refused
from pipeline.audio.layouts.manifests import numbered_rows
from pipeline.audio.manifest import encode_id
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason

Placer = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Gives the fields of a candidate that say where the audio lies, from the id of a cut and its source; it raises
AudioDecodeError where that cannot be read."""

_CUT = ("id", "start", "duration", "channel", "supervisions", "recording", "type")
_SUPERVISION = ("id", "recording_id", "start", "duration", "channel", "text", "speaker", "language")
_LABELS = ("text", "speaker", "language")
_WITHOUT_TEXT = ("speaker", "language")
_CUT_TYPES = ("MonoCut", "MultiCut", "Cut")
# Supervisions of trimmed cuts end where their cut does, but for rounding.
_SLACK_SECONDS = 0.1
# Of seconds, and of samples in a second.
_MOST = 1_000_000_000


def read_cuts(uri: str, place: Placer, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the cuts of one manifest, in its order.

    Args:
        uri: The manifest, JSON lines, plain or packed with gzip.
        place: Says where the audio of a cut lies.
        passed_over: Counts fields that are not read, and labels that are not those of one utterance.

    Raises:
        ManifestError: The manifest is absent or unreadable, or one of recordings or supervisions.
    """
    cuts = UnreadColumns({name: (name,) for name in _CUT})
    supervisions = UnreadColumns({name: (name,) for name in _SUPERVISION})
    for index, (number, row) in enumerate(numbered_rows(uri)):
        if not isinstance(row, str):
            if index == 0:
                _require_cut(row, uri)
            cuts.see(row)
        yield _candidate(row, f"line {number} of {uri}", f"@row{number}", place, supervisions, passed_over)
    cuts.count(passed_over, uri)
    supervisions.count(passed_over, f"supervisions of {uri}")


def _require_cut(row: Mapping[str, Any], uri: str) -> None:
    if "type" in row:
        return
    if "sources" in row:
        raise ManifestError(
            f"{uri} holds recordings, not cuts: lhotse cut simple -r {uri} cuts.jsonl.gz makes them, with -s "
            "SUPERVISIONS where there are some, and then lhotse cut trim-to-supervisions"
        )
    if "recording_id" in row:
        raise ManifestError(
            f"{uri} holds supervisions or features, not cuts: lhotse cut simple -r RECORDINGS -s {uri} cuts.jsonl.gz "
            "makes them, and then lhotse cut trim-to-supervisions"
        )
    raise ManifestError(f"{uri} holds no cuts of lhotse: its first object has no type, such as MonoCut")


def _candidate(
    row: Mapping[str, Any] | str,
    where: str,
    name: str,
    place: Placer,
    supervisions: UnreadColumns,
    passed_over: PassedOver,
) -> Candidate:
    try:
        if isinstance(row, str):
            raise _bad(row)
        given = fields.label(row, ("id",), "utterance_id")
        if given is None:
            raise _bad("the cut has no id")
        name = given
        recording = _recording(row)
        source, heard = _source(row, recording)
        rate = _number(recording, "sampling_rate", "the recording")
        if rate <= 0:
            raise _bad(f"the sampling_rate of the recording must be above 0, got {shown(rate)}")
        start = _samples(_number(row, "start", "the cut") * rate)
        length = _samples(_number(row, "duration", "the cut") * rate)
        if start < 0 or length <= 0:
            raise AudioDecodeError(Reason.BAD_SEGMENT, f"the cut begins at sample {start} and has {length}")
        return Candidate(
            utterance_id=encode_id(name),
            offset_seconds=start / rate,
            duration_seconds=length / rate,
            **place(name, source),
            **heard,
            **_labels(row, name, supervisions, passed_over),
        )
    except AudioDecodeError as error:
        return refused(name, "", where, error)


def _samples(number: float) -> int:
    # Halves go up, as lhotse's do; 8 digits are left of what a product of floats holds behind the point.
    return math.floor(round(number, 8) + 0.5)


def _recording(cut: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the recording of a cut that can be read as one."""
    kind = cut.get("type")
    if kind not in _CUT_TYPES:
        what = "a mix of cuts; lhotse's save_audios makes recordings of them" if kind == "MixedCut" else "not read"
        raise _bad(f"a {kind if kind in ('MixedCut', 'PaddingCut') else shown(kind)} is {what}")
    recording = cut.get("recording")
    if recording is None:
        raise _bad("the cut has no recording" + (", only features" if cut.get("features") else ""))
    if not isinstance(recording, dict):
        raise _bad(f"the recording of the cut must be an object, got {shown(recording)}")
    if transforms := recording.get("transforms"):
        each = transforms if isinstance(transforms, list) else [transforms]
        names = ", ".join(shown(one.get("name")) if isinstance(one, dict) else shown(one) for one in each)
        raise _bad(f"lhotse would change the audio ({names}); its save_audios writes what it gives")
    return recording


def _source(cut: Mapping[str, Any], recording: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Find the source that holds the channels of a cut, and which of its own channels they are."""
    channel = cut.get("channel")
    wanted = (channel,) if type(channel) is int and channel >= 0 else fields.channels(cut, ("channel",)) or (0,)
    sources = recording.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise _bad("the recording has no list of sources")
    for source in sources:
        held = source.get("channels")
        if not isinstance(held, list):
            raise _bad("a source of the recording has no list of channels")
        if wanted[0] in held:
            if len(wanted) > 1 and (missing := [channel for channel in wanted if channel not in held]):
                raise AudioDecodeError(
                    Reason.BAD_SEGMENT,
                    f"channels {wanted[0]} and {missing[0]} lie in different sources, which are not averaged; "
                    "lhotse's to_mono makes a cut of each channel",
                )
            if len(wanted) == 1:
                return source, {"channel": held.index(wanted[0])}
            return source, {"channels": tuple(sorted(held.index(channel) for channel in wanted))}
    raise AudioDecodeError(Reason.BAD_SEGMENT, f"no source of the recording has channel {wanted[0]}")


def _labels(cut: Mapping[str, Any], name: str, columns: UnreadColumns, passed_over: PassedOver) -> Mapping[str, Any]:
    """Give text, speaker and language of a cut: of several supervisions the texts in order, and what they agree in."""
    found = cut.get("supervisions")
    found = [] if found is None else found
    if not isinstance(found, list):
        raise _bad(f"supervisions must be a list, got {shown(found)}")
    sticks_out = False
    for one in found:
        if not isinstance(one, dict):
            raise _bad(f"a supervision must be an object, got {shown(one)}")
        columns.see(one)
        sticks_out = sticks_out or _sticks_out(one, cut)
    if sticks_out:
        passed_over.add(Kind.RECORDING_LABELS, example=name)
    names = _WITHOUT_TEXT if sticks_out else _LABELS
    if len(found) == 1:
        return {label: fields.label(found[0], (label,), label) for label in names}
    return _joined(found, names, name, passed_over) if found else {}


def _joined(
    supervisions: Sequence[Mapping[str, Any]], names: Sequence[str], name: str, passed_over: PassedOver
) -> Mapping[str, Any]:
    passed_over.add(Kind.JOINED_LABELS, example=name)
    in_order = sorted(supervisions, key=lambda one: _number(one, "start", "a supervision"))
    labels: dict[str, str | None] = {}
    for label in names:
        values = [fields.label(one, (label,), label) for one in in_order]
        if label != "text":
            labels[label] = values[0] if len(set(values)) == 1 else None
        elif any(values):
            texts = [value for value in values if value]
            # A text that lacks what one of them says would be a wrong one.
            labels[label] = " ".join(texts) if len(texts) == len(values) else None
            passed_over.add(Kind.WITHOUT_LABEL, len(texts) < len(values), example=name, name=label)
    return labels


def _sticks_out(supervision: Mapping[str, Any], cut: Mapping[str, Any]) -> bool:
    """Say whether a supervision says more than the cut holds, as where lhotse has cut into windows."""
    start = _number(supervision, "start", "a supervision")
    end = start + _number(supervision, "duration", "a supervision")
    return start < -_SLACK_SECONDS or end > _number(cut, "duration", "the cut") + _SLACK_SECONDS


def _number(row: Mapping[str, Any], field: str, what: str) -> float:
    value: Any = row.get(field)
    # By its type, because a truth value is an int too; comparisons are false for NaN.
    if type(value) in (int, float) and -_MOST < value < _MOST:
        return float(value)
    raise _bad(f"{field} of {what} must be a number, got {shown(value)}")


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)
