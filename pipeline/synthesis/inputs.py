"""What synthesize reads, shard by shard: a tokens dataset, or an export whose ids become tokens again.

An export is read from its ``sequences``, which lie beside every other form and hold the same ids: there all of an
utterance is in one row or in rows that follow each other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.export.read_export import read_export
from pipeline.export.shards.parts import read_parts
from pipeline.store.completion import read_shard_table, success
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_pieces
from pipeline.store.storage import join


@dataclass(frozen=True, kw_only=True)
class SpokenInput:
    """Where tokens are.

    Attributes:
        uri: The dataset or export.
        exported: Whether it is an export.
        units: What is spoken at once: name, and for an export part and shard.
        lineage: Encoder, codebooks and K of the tokens.
        sha256: Hash of what is read.
        manifests: Hashes that the manifest behind the tokens may have; none where that is not known.
        totals: Rows and seconds.
        every_frame: Whether the tokens of every frame are given; False: of an export those of each run, once.
    """

    uri: str
    exported: bool
    units: Mapping[str, tuple[str, str]]
    lineage: Mapping[str, Any]
    sha256: tuple[str, ...]
    manifests: tuple[str, ...] = ()
    totals: Mapping[str, float] = field(default_factory=dict)
    every_frame: bool = True

    def rows(self, unit: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Read the utterances of a unit.

        Yields:
            The utterance's id, and its tokens (T,) by column.

        Raises:
            CorruptDatasetError: The data is damaged, or frames are missing.
        """
        if self.exported:
            yield from self._exported(*self.units[unit])
            return
        columns = tuple(self.lineage["codebooks"])
        for table in read_pieces(Dataset.open(self.uri, kind="tokens"), unit):
            cells = {column: table[column].combine_chunks() for column in columns}
            for row, utterance_id in enumerate(table["utterance_id"].to_pylist()):
                yield utterance_id, {column: cells[column][row].values.to_numpy() for column in columns}

    def _exported(self, part: str, shard: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        name, frames = "", 0
        held: list[dict[str, np.ndarray]] = []
        for stretch in read_export(self.uri, part=part, unit=shard, every_frame=self.every_frame):
            if held and stretch.utterance_id != name:
                yield name, _joined(held)
                held, frames = [], 0
            if stretch.first_frame != frames:
                raise CorruptDatasetError(
                    f"{self.uri} lacks frames {frames} to {stretch.first_frame - 1} of {stretch.utterance_id}; export "
                    "the tokens anew"
                )
            name = stretch.utterance_id
            held.append(stretch.tokens)
            frames += stretch.num_frames
        if held:
            yield name, _joined(held)


def _joined(stretches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {column: np.concatenate([each[column] for each in stretches]) for column in stretches[0]}


def tokens_input(uri: str) -> SpokenInput:
    """Open a tokens dataset.

    Raises:
        DatasetError: There is none, or it is not finished.
    """
    dataset = Dataset.open(uri, kind="tokens")
    return SpokenInput(
        uri=uri,
        exported=False,
        units={unit: ("", unit) for unit in dataset.plan.units},
        lineage=dataset.plan.lineage,
        sha256=(success(dataset)["dataset_sha256"],),
        manifests=(dataset.plan.content["input_sha256"],),
        totals=_totals(dataset),
    )


def export_input(uri: str, *, every_frame: bool = True) -> SpokenInput:
    """Open an export, all its parts.

    Args:
        uri: The export.
        every_frame: Whether the tokens of every frame are needed; False: durations are predicted.

    Raises:
        DatasetError: There is none, or its sequences are not finished.
        SettingsError: It has text in place of speech, whose frames are gone.
    """
    root = Dataset.open(uri, kind="export", finished=False)
    if root.plan.content["words"]:
        raise SettingsError(
            f"{uri} has text in place of words, and their frames are gone; export the tokens without --words, or give "
            "the tokens dataset"
        )
    parts = read_parts(root.store)
    if not parts:
        raise DatasetError(f"{uri} has no part yet; run export_tokens again")
    units: dict[str, tuple[str, str]] = {}
    digests, seconds, rows = [], 0.0, 0.0
    for part in parts:
        dataset = Dataset.open(join(uri, "sequences", part.name), kind="sequences")
        if every_frame:
            _check_durations(dataset)
        names = {f"{part.name}-{unit}" if len(parts) > 1 else unit: (part.name, unit) for unit in dataset.plan.units}
        units |= names
        digests.append(success(dataset)["dataset_sha256"])
        totals = _totals(dataset)
        seconds, rows = seconds + totals["seconds"], rows + totals["rows"]
    lineage = dataset.plan.lineage
    columns = [column for column in lineage["codebooks"] if column in root.plan.content["num_clusters"]]
    return SpokenInput(
        uri=uri,
        exported=True,
        units=units,
        lineage={**lineage, "codebooks": {column: lineage["codebooks"][column] for column in columns}},
        sha256=tuple(digests),
        manifests=tuple(part.manifest_sha256 for part in parts if part.manifest_sha256 is not None),
        totals={"seconds": seconds, "rows": rows},
        every_frame=every_frame,
    )


def _check_durations(dataset: Dataset) -> None:
    """Refuse ids without repeats of which nobody wrote how long each lasted."""
    if not dataset.plan.content["pattern"]["deduplicate"]:
        return
    for unit in dataset.plan.units[:1]:
        for table in read_pieces(dataset, unit):
            if "durations" not in table.column_names or table["durations"].null_count:
                raise SettingsError(
                    f"{dataset.uri} is deduplicated and does not say how long each id lasted; export the tokens anew, "
                    "give the tokens dataset, or let a vocoder with a duration predictor say it: --durations predicted"
                )


def _totals(dataset: Dataset) -> dict[str, float]:
    table = read_shard_table(dataset)
    return {
        name: float(sum(table[column].to_pylist())) for name, column in (("rows", "num_rows"), ("seconds", "seconds"))
    }
