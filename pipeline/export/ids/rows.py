"""From a unit of a tokens dataset to rows of sequences: tokens become ids, utterances learn their document.

Arrays and tables in, a table of ``schema.SEQUENCES`` out; the same input gives the same table.
Shapes: T frames, L layers, N ids.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import CorruptDatasetError
from pipeline.export.grouping import Grouping, Together, key_of, on_valid_side
from pipeline.export.ids.patterns import Pattern, encode
from pipeline.export.ids.prefix import Prefix
from pipeline.export.ids.vocabulary import Vocabulary

LABEL_COLUMNS = (*schema.LABELS, "uri", "channel", "offset_samples", "num_samples", "sample_rate", *schema.PART)
"""What is read of a manifest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Ids of some frames of an utterance.

    Attributes:
        first_frame: The first frame.
        num_frames: Frames that the ids stand for.
        num_kept: Those left after deduplication.
        ids: int64 (N,).
        durations: int32 (num_kept,), or None.
        speech: Whether they are units; False for text.
        loss_mask: bool (N,), or None where all ids count.
    """

    first_frame: int
    num_frames: int
    num_kept: int
    ids: np.ndarray
    durations: np.ndarray | None = None
    speech: bool = True
    loss_mask: np.ndarray | None = None


Encode = Callable[[str, Mapping[str, np.ndarray]], Sequence[Stretch]]
"""Given an utterance_id and its tokens by column, (T,) each: its stretches, in order."""


@dataclass(frozen=True, kw_only=True)
class PlainEncoder:
    """Encodes an utterance by a pattern, in as few stretches as the limit allows.

    Attributes:
        pattern: How frames become ids.
        vocabulary: Which ids.
        max_ids: Most ids of a stretch, before unit BPE; 0 is no limit.
    """

    pattern: Pattern
    vocabulary: Vocabulary
    max_ids: int = 0

    def __call__(self, utterance_id: str, tokens: Mapping[str, np.ndarray]) -> list[Stretch]:
        """Encode one utterance; see ``Encode``."""
        num_frames = len(tokens[self.pattern.columns[0]])
        if self.max_ids and self.pattern.num_ids(num_frames) > self.max_ids:
            step = self.pattern.num_frames(self.max_ids)
        else:
            step = max(1, num_frames)
        stretches = []
        for first in range(0, num_frames, step):
            part = {column: tokens[column][first : first + step] for column in self.pattern.columns}
            found = encode(part, self.pattern, self.vocabulary)
            length = len(part[self.pattern.columns[0]])
            kept = length if found.durations is None else len(found.durations)
            stretches.append(
                Stretch(
                    first_frame=first,
                    num_frames=length,
                    num_kept=kept,
                    ids=found.ids,
                    durations=found.durations,
                )
            )
        return stretches


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What decides an utterance's document.

    Attributes:
        grouping: What a document is.
        prefix: Special tokens at its beginning.
        valid_fraction: Share of documents on the validation side.
        split_by_speaker: Whether all of a speaker is on one side.
        together: Documents that share speakers with others, whose side follows from these.
    """

    grouping: Grouping
    prefix: Prefix
    valid_fraction: float
    split_by_speaker: bool
    together: Together = Together()


def token_cells(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Give each utterance of a tokens table, and its tokens by column, uint16 (T,); views, nothing is copied."""
    cells = {name: table[name].combine_chunks() for name in columns}
    flat = {name: cell.values.to_numpy(zero_copy_only=False) for name, cell in cells.items()}
    ends = {name: cell.offsets.to_numpy() for name, cell in cells.items()}
    for row, utterance_id in enumerate(table["utterance_id"].to_pylist()):
        yield utterance_id, {name: flat[name][ends[name][row] : ends[name][row + 1]] for name in columns}


def labels_of(manifest_rows: pa.Table, roots: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give the rows of a manifest's shard by utterance_id.

    Args:
        manifest_rows: Rows of a manifest.
        roots: Folders and prefixes under which its audio lies. ``recording`` is the uri below the deepest of them, so
            a corpus that moves keeps the names of its recordings.
    """
    chosen = manifest_rows.select(["utterance_id", *LABEL_COLUMNS])
    deepest = sorted((root.rstrip("/") + "/" for root in roots), key=len, reverse=True)

    def below(uri: str) -> str:
        return next((uri.removeprefix(root) for root in deepest if uri.startswith(root)), uri)

    return {row["utterance_id"]: {**row, "recording": below(row["uri"])} for row in chosen.to_pylist()}


def sequence_rows(
    tokens: pa.Table,
    labels: Mapping[str, Mapping[str, Any]] | None,
    *,
    columns: Sequence[str],
    encode: Encode,
    naming: Naming,
    vocabulary: Vocabulary,
    frame_rate: float,
) -> pa.Table:
    """Turn the utterances of a unit into rows of ``schema.SEQUENCES``.

    Args:
        tokens: Rows of a tokens dataset.
        labels: What ``labels_of`` gave; None where there is no manifest.
        columns: Token columns that ``encode`` needs.
        encode: Turns an utterance's tokens into stretches of ids.
        naming: What decides its document.
        vocabulary: Whose ids they are.
        frame_rate: Frames a second.

    Raises:
        CorruptDatasetError: The manifest lacks an utterance, or a token is past its codebook.
    """
    rows: dict[str, list[Any]] = {name: [] for name in schema.SEQUENCES.names}
    for utterance_id, cells in token_cells(tokens, columns):
        if labels is not None and utterance_id not in labels:
            raise CorruptDatasetError(f"the manifest has no utterance {utterance_id}, the tokens do; give their own")
        about = labels[utterance_id] if labels is not None else {}
        named = _named(utterance_id, about, naming)
        for stretch in encode(utterance_id, cells):
            _append(rows, named | _placed(stretch, about, frame_rate), stretch, vocabulary)
    return pa.table({field.name: pa.array(rows[field.name], field.type) for field in schema.SEQUENCES}).cast(
        schema.SEQUENCES
    )


def _named(utterance_id: str, about: Mapping[str, Any], naming: Naming) -> dict[str, Any]:
    document_id = naming.grouping.document_id(utterance_id, about)
    speaker = about.get("speaker")
    side = f"speaker {speaker}" if naming.split_by_speaker and speaker is not None else document_id
    document = key_of(document_id)
    moved = naming.together.side(document)
    return {
        "utterance_id": utterance_id,
        "document_id": document_id,
        "document": document,
        "valid": on_valid_side(side, naming.valid_fraction) if moved is None else moved,
        "prefix": naming.prefix.ids(about),
        "uri": about.get("uri"),
        "speaker": speaker,
        "language": about.get("language"),
        "text": about.get("text"),
    }


def _placed(stretch: Stretch, about: Mapping[str, Any], frame_rate: float) -> dict[str, Any]:
    begins = about["offset_samples"] / about["sample_rate"] if about else 0.0
    return {
        "first_frame": stretch.first_frame,
        "num_frames": stretch.num_frames,
        "num_kept": stretch.num_kept,
        "num_ids": len(stretch.ids),
        "offset_seconds": begins + stretch.first_frame / frame_rate if about else None,
        "seconds": stretch.num_frames / frame_rate,
    }


def _append(rows: dict[str, list[Any]], row: Mapping[str, Any], stretch: Stretch, vocabulary: Vocabulary) -> None:
    for name, value in row.items():
        rows[name].append(value)
    rows["ids"].append(vocabulary.check(stretch.ids).tobytes())
    rows["durations"].append(None if stretch.durations is None else stretch.durations.astype("<i4").tobytes())
    rows["loss_mask"].append(None if stretch.loss_mask is None else stretch.loss_mask.astype(np.uint8).tobytes())
