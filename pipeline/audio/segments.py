"""Segments: a recording's row in a corpus becomes one candidate for each stretch that a list or VAD gives.

Nothing is lost in silence: a recording without a segment, and a segment without a recording, become candidates with
a problem. Memory: the recordings as objects (about 500 bytes each) and the list as Arrow columns.
"""

import itertools
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audio.candidate import Candidate, printable, stem
from pipeline.audio.manifest import MAX_ID_LENGTH, encode_id
from pipeline.audio.segment_lists import ListedSegment
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.redaction import redact_uri
from pipeline.schema import Reason

_BATCH = 10_000
# A list rounded to 0.1 s may end after the recording does; the header decides then.
_SLACK_SECONDS = 0.1

_LISTED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("utterance_id", pa.string()),
        pa.field("channels", pa.list_(pa.int64())),
        pa.field("rttm_channel", pa.int64()),
        pa.field("speaker", pa.string()),
        pa.field("text", pa.string()),
        pa.field("problem", pa.list_(pa.string())),
    ]
)


def segment_id(
    recording_id: str,
    start_seconds: float,
    end_seconds: float | None,
    speaker: str | None = None,
    channels: Sequence[int] = (),
) -> str:
    """Name a segment by its place: ``recording@start-end`` in milliseconds, and ``@speaker`` where one is given.

    The speaker is part of the name because two may speak in the same stretch, and so are channels (``@c1``) other than
    the first one alone; nothing else of the list is, so no segment's id hangs on another.

    Args:
        recording_id: The encoded id of the recording.
        start_seconds: Start in the recording, seconds.
        end_seconds: End in the recording, seconds; None is to the end of the recording.
        speaker: Who speaks, if the list says so.
        channels: The channels in which it is heard, from 0, if the list says so.

    Returns:
        An encoded id of at most 190 characters.
    """
    place = f"@{round(start_seconds * 1000)}-" + ("" if end_seconds is None else f"{round(end_seconds * 1000)}")
    place += "" if speaker is None else f"@{speaker}"
    place += "@c" + "-".join(map(str, channels)) if any(channels) else ""
    # Escapes are complete in themselves: encoded texts joined are the code of the joined texts.
    joined = recording_id + encode_id(place)
    return joined if len(joined) <= MAX_ID_LENGTH else encode_id(recording_id + place)


def cut_recordings(
    recordings: Iterable[Candidate], segments: Iterable[ListedSegment], corpus: str, *, passed_over: PassedOver
) -> Iterator[Candidate]:
    """Replace every recording of a corpus by the segments that a list has of it.

    A segment names its recording by utterance_id, by URI or path below the corpus (with its extension or without),
    or by file name (likewise). The most exact of these that fits counts; where it fits several recordings the
    segment is refused. Labels are the recording's, speaker and text the segment's where it has them; the text of a
    whole recording is not that of a segment, so it goes. So is the channel, where the list names one.

    Args:
        recordings: The corpus; its order is kept.
        segments: The list, in any order; segments of a recording come by start, then as listed.
        corpus: Folder of the corpus, or of its listing.
        passed_over: Counts segments that meet no recording, texts of whole recordings, and channels of RTTM.

    Returns:
        Segments as candidates; with a problem: recordings without a segment, segments without a recording, last.

    Raises:
        ManifestError: A recording is itself a segment, or no segment names a recording of this corpus.
    """
    known = list(recordings)
    listed = _Listed(segments)
    places, ambiguous = _match(known, listed.names, corpus)
    if known and not places and not ambiguous:
        raise ManifestError(
            f"no segment names a recording of {corpus}: the list has {printable(listed.names[0])[:200]!r}, the corpus "
            f"{known[0].utterance_id!r}"
        )
    for number, recording in enumerate(known):
        if recording.offset_seconds:
            raise ManifestError(
                f"{recording.utterance_id} begins at {recording.offset_seconds:g} s of {recording.uri}: it is a "
                "segment already; --segments wants a corpus of whole recordings"
            )
        if number not in places:
            nothing = (Reason.NO_SEGMENT.value, "the segment list has no segment of this recording")
            yield replace(recording, problem=recording.problem or nothing)
        else:
            if recording.text is not None or recording.clean_uri is not None:
                passed_over.add(Kind.RECORDING_LABELS, example=recording.utterance_id)
            of_it = listed.of(places[number])
            for segment, hint in zip(of_it, _hints(of_it, passed_over), strict=True):
                yield _cut(recording, segment, hint)
    matched = {name for names in places.values() for name in names}
    for number, name in enumerate(listed.names):
        if number not in matched:
            why = ambiguous.get(number, "no recording of the corpus has this name")
            for segment in listed.of([number]):
                if segment.problem is None:
                    passed_over.add(Kind.UNMATCHED_SEGMENTS, example=f"row {segment.row}: {redact_uri(name)}")
                yield _orphan(segment, f"{why}: {printable(redact_uri(name))[:200]!r}")


class _Listed:
    """A segment list as Arrow columns, found by recording."""

    def __init__(self, segments: Iterable[ListedSegment]) -> None:
        batches = []
        pending = iter(segments)
        while batch := list(itertools.islice(pending, _BATCH)):
            batches.append(pa.Table.from_pylist([asdict(segment) for segment in batch], schema=_LISTED))
        table = pa.concat_tables(batches) if batches else _LISTED.empty_table()
        encoded = table["recording"].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        starts = table["start_seconds"].to_numpy()
        order = np.lexsort((np.arange(len(codes)), starts, codes))
        self.names: list[str] = encoded.dictionary.to_pylist()
        self._table = table.take(order)
        self._bounds = np.searchsorted(codes[order], np.arange(len(self.names) + 1))

    def of(self, names: Sequence[int]) -> list[ListedSegment]:
        """Give the segments of a recording, which may have several names, by start."""
        rows: list[dict[str, Any]] = []
        for name in names:
            begin, end = int(self._bounds[name]), int(self._bounds[name + 1])
            rows += self._table.slice(begin, end - begin).to_pylist()
        rows.sort(key=lambda row: (math.inf if row["start_seconds"] is None else row["start_seconds"], row["row"]))
        return [_segment(row) for row in rows]


def _segment(row: dict[str, Any]) -> ListedSegment:
    problem = row["problem"] and tuple(row["problem"])
    return ListedSegment(**{**row, "problem": problem, "channels": tuple(row["channels"] or ())})


def _match(
    recordings: Sequence[Candidate], names: Sequence[str], corpus: str
) -> tuple[Mapping[int, list[int]], Mapping[int, str]]:
    """Find the recording of each name: names by recording, and why the others fit none alone."""
    numbers = {name: number for number, name in enumerate(names)}
    encoded = {encode_id(name): number for number, name in enumerate(names)}
    best: dict[int, tuple[int, list[int]]] = {}
    for row, recording in enumerate(recordings):
        fits: dict[int, int] = {}
        for level, called in enumerate(_names(recording, corpus)):
            for name in called:
                number = encoded.get(name) if level == 0 else None
                number = numbers.get(name) if number is None else number
                if number is not None:
                    fits.setdefault(number, level)
        for number, level in fits.items():
            if number not in best or level < best[number][0]:
                best[number] = level, [row]
            elif level == best[number][0]:
                best[number][1].append(row)
    places: dict[int, list[int]] = {}
    ambiguous: dict[int, str] = {}
    for number, (_, rows) in sorted(best.items()):
        if len(rows) == 1:
            places.setdefault(rows[0], []).append(number)
        else:
            ambiguous[number] = f"{recordings[rows[0]].uri} and {recordings[rows[1]].uri} both have this name"
    return places, ambiguous


def _names(recording: Candidate, corpus: str) -> tuple[tuple[str, ...], ...]:
    """Give the names by which a list may call a recording, the most exact first."""
    below = recording.uri.removeprefix(corpus.rstrip("/") + "/")
    file = posixpath.basename(recording.uri)
    return (recording.utterance_id,), (recording.uri, below, stem(below)), (file, stem(file))


def _hints(segments: Sequence[ListedSegment], passed_over: PassedOver) -> list[int | None]:
    """Read the channels that RTTM gives the segments of one recording, from 0.

    RTTM counts from 1, and most tools write 1 whatever was recorded. So a channel means something where the lines of a
    recording name several; where they agree, none is told. Where a line says 0, whoever wrote it counted from 0.
    """
    written = {segment.rttm_channel for segment in segments} - {None}
    for segment in segments:
        if len(written) == 1 and (segment.rttm_channel or 0) > 1:
            passed_over.add(
                Kind.UNUSED_CHANNELS,
                example=f"row {segment.row}: {redact_uri(segment.recording)}",
                name=str(segment.rttm_channel),
            )
    if len(written) < 2:
        return [None] * len(segments)
    first = 0 if 0 in written else 1
    return [None if segment.rttm_channel is None else segment.rttm_channel - first for segment in segments]


def _cut(recording: Candidate, segment: ListedSegment, hint: int | None) -> Candidate:
    start, end = segment.start_seconds, segment.end_seconds
    whole = recording.duration_seconds
    problem = recording.problem or segment.problem
    if problem is None and start is not None and whole is not None and max(start, end or 0) > whole + _SLACK_SECONDS:
        problem = (Reason.BAD_SEGMENT.value, f"it lies outside the recording of {whole:g} s, as its listing says")
    only = recording.channel
    if problem is None and only is not None and segment.channels not in ((), (only,)):
        told = f"it is heard in channel {segment.channels[0]}, but its recording is channel {only} of {recording.uri}"
        problem = (Reason.BAD_SEGMENT.value, told)
    return replace(
        recording,
        utterance_id=_id(segment, recording.utterance_id, hint),
        offset_seconds=start,
        duration_seconds=None if start is None or end is None else end - start,
        channels=() if only is not None else segment.channels or recording.channels,
        channel_hint=hint if only is None else None,
        speaker=segment.speaker or recording.speaker,
        text=segment.text,
        clean_uri=None,
        problem=problem,
    )


def _orphan(segment: ListedSegment, why: str) -> Candidate:
    return Candidate(
        utterance_id=_id(segment, encode_id(segment.recording)),
        uri=printable(redact_uri(segment.recording)),
        problem=segment.problem or (Reason.BAD_SEGMENT.value, f"row {segment.row} of the segment list: {why}"),
    )


def _id(segment: ListedSegment, recording_id: str, hint: int | None = None) -> str:
    if segment.utterance_id is not None:
        return encode_id(segment.utterance_id)
    if segment.start_seconds is None:
        return encode_id(f"@segment{segment.row}")
    # A hint may be wrong: it is part of the name only where nothing else tells two segments of one place apart.
    channels = segment.channels if hint is None or segment.speaker is not None else (hint,)
    return segment_id(recording_id, segment.start_seconds, segment.end_seconds, segment.speaker, channels)
