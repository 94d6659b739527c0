"""Turn word or phone times of other tools into the alignment that describe_codebooks and export_tokens read.

Reads: a manifest, and the times: TextGrids, CTM, alignments of lhotse, files of TIMIT. Writes: one table of
``schema.ALIGNMENT`` as Parquet or CSV, sorted by utterance and start; it appears whole. Restart: everything again.
Needs no Ray. Memory: the ids and places of the utterances (250 bytes each), and a few 100,000 intervals. Disk: all
intervals twice in the folder for temporary files.
"""

import itertools
import logging
import mmap
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.alignments.cutting import cut
from pipeline.audio.alignments.folders import no_match
from pipeline.audio.alignments.forms import read_form
from pipeline.audio.alignments.settings import ConvertAlignmentsConfig
from pipeline.audio.alignments.spilling import Sorter
from pipeline.audio.alignments.timed import Interval, Timed
from pipeline.audio.alignments.utterances import Places, Utterances
from pipeline.audio.loading import Manifest
from pipeline.errors import ManifestError, SettingsError
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import located, open_store

logger = logging.getLogger(__name__)

DEFAULT_TIER = "words"
_LINES = ("ctm", "lhotse")
"""Forms that are a table, whose lines a program may have joined to themselves; tiers of two speakers may agree."""

_BATCH = 2000
_NO_FILE = -1


@dataclass(frozen=True, kw_only=True)
class AlignmentsReport:
    """What convert_alignments did.

    Attributes:
        stage: ``alignments``.
        output: The file.
        utterances: Utterances of the manifest.
        matched: Those that the times name.
        intervals: Rows of the file.
        silence: Intervals that were dropped, by label.
        wall_seconds: Time this run took.
        passed_over: What did not meet, by kind (docs/passed_over.md).
    """

    stage: str
    output: str
    utterances: int
    matched: int
    intervals: int
    silence: Mapping[str, int]
    wall_seconds: float
    passed_over: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        dropped = ", ".join(f"{label or 'empty'} {count:,}" for label, count in sorted(self.silence.items()))
        return [
            ("output", self.output),
            ("utterances", f"{self.matched:,} of {self.utterances:,} have times"),
            ("intervals", f"{self.intervals:,}"),
            ("silence dropped", dropped or "none"),
            ("wall time", f"{self.wall_seconds:.1f} s"),
            *PassedOver.of(self.passed_over).lines(),
        ]


class _Conversion:
    """Collects the rows of one table, and counts what does not meet."""

    def __init__(self, config: ConvertAlignmentsConfig, utterances: Utterances, folder: str) -> None:
        self._utterances = utterances
        self.passed_over = PassedOver()
        self._dropped = {"", *config.silence} if config.silence else set()
        self._files: list[str] = []
        self._file_of = np.full(len(utterances.ids), _NO_FILE, np.int64)
        self.rows = Sorter(folder, utterances.ids, self.passed_over, once=config.format in _LINES)
        self.met = np.zeros(len(utterances.ids), bool)
        self.silence: Counter[str] = Counter()
        self.first = ""

    def take(self, found: Iterator[Timed]) -> None:
        """Take all times, and count the utterances that have none."""
        while batch := list(itertools.islice(found, _BATCH)):
            self.first = self.first or batch[0].called[0].name
            for timed, places in zip(batch, self._utterances.find(batch), strict=True):
                if places is None:
                    self.passed_over.add(Kind.UNMATCHED_IDS, example=timed.called[0].name, name="times")
                else:
                    self._add(timed, places)
        without = np.flatnonzero(~self.met)
        if 0 < len(without) < len(self.met):
            example = self._utterances.ids[int(without[0])].as_py()
            self.passed_over.add(Kind.WITHOUT_LABEL, len(without), example=example, name="times")

    def _add(self, timed: Timed, places: Places) -> None:
        self._claim(timed, places)
        self.met[places.ranks] = True
        spoken = [each for each in timed.intervals if each.label not in self._dropped]
        if len(spoken) < len(timed.intervals):
            self.silence.update(each.label for each in timed.intervals if each.label in self._dropped)
        if spoken:
            self._cut(timed.file or timed.called[-1].name, spoken, places)

    def _cut(self, name: str, intervals: list[Interval], places: Places) -> None:
        rows = cut(intervals, places, self._utterances.seconds)
        labels = [intervals[number].label for number in rows.numbers.tolist()]
        self.rows.add(rows.ranks, rows.starts, rows.ends, labels)
        for count, what in ((rows.shortened, "cut"), (rows.left_out, "left out")):
            self.passed_over.add(Kind.OUTSIDE_UTTERANCE, count, example=name, name=what)

    def _claim(self, timed: Timed, places: Places) -> None:
        """Refuse two files for one utterance."""
        if timed.file is None:
            return
        taken = self._file_of[places.ranks].max()
        if taken != _NO_FILE:
            utterance_id = self._utterances.ids[int(places.ranks[0])].as_py()
            raise ManifestError(
                f"{self._files[taken]} and {timed.file} both give times of {utterance_id}; move one of them away"
            )
        self._file_of[places.ranks] = len(self._files)
        self._files.append(timed.file)


def convert_alignments(config: ConvertAlignmentsConfig) -> AlignmentsReport:
    """Turn word or phone times of other tools into the alignment that describe_codebooks and export_tokens read.

    Times of whole recordings are shifted into their utterances and cut at their edges.

    Raises:
        ManifestError: The times cannot be read, or an interval ends before it begins; with ``strict``, anything was
            passed over.
        SettingsError: No utterance of the manifest is named, or no interval is left.
    """
    began = time.monotonic()
    config = located(config, "alignments", "manifest", "output")
    utterances = Utterances(Manifest(config.manifest))
    tier = config.tier or DEFAULT_TIER
    with tempfile.TemporaryDirectory() as folder:
        conversion = _Conversion(config, utterances, folder)
        passed_over = conversion.passed_over
        conversion.take(read_form(config.format, config.alignments, tier, utterances, passed_over))
        if not conversion.met.any():
            raise SettingsError(_nothing(config, tier, conversion, utterances))
        table = f"{folder}/table"
        _write(table, conversion.rows, csv=config.output.lower().endswith(".csv"))
        passed_over.log(logger, config.alignments)
        if config.strict:
            passed_over.refuse(config.alignments)
        if not conversion.rows.num_rows:
            raise SettingsError(f"{config.alignments} has no interval of tier {tier} that is no silence")
        _publish(table, config.output)
    return AlignmentsReport(
        stage="alignments",
        output=config.output,
        utterances=len(utterances.ids),
        matched=int(conversion.met.sum()),
        intervals=conversion.rows.num_rows,
        silence=dict(sorted(conversion.silence.items())),
        wall_seconds=time.monotonic() - began,
        passed_over=passed_over.to_json(),
    )


def _nothing(config: ConvertAlignmentsConfig, tier: str, conversion: _Conversion, utterances: Utterances) -> str:
    if conversion.first:
        return no_match(config.alignments, conversion.first, utterances)
    told = "; ".join(f"{kind} {count}" for kind, count in conversion.passed_over.lines())
    return f"{config.alignments} has no times of tier {tier}; {told or 'it is empty'}"


def _write(table: str, rows: Sorter, *, csv: bool) -> None:
    """Write the table to a file here."""
    if csv:
        with pacsv.CSVWriter(table, schema.ALIGNMENT) as writer:
            _write_all(writer, rows)
    else:
        with pq.ParquetWriter(table, schema.ALIGNMENT, compression="zstd") as writer:
            _write_all(writer, rows)


def _publish(table: str, output: str) -> None:
    """Show the table at its place whole."""
    folder, _, name = output.rpartition("/")
    with (
        open(table, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        open_store(folder or "/").write(name, view)


def _write_all(writer: Any, rows: Sorter) -> None:
    for table in rows.tables():
        writer.write_table(table)
