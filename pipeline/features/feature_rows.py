"""The rows of a features file as arrays: what everyone does first who reads features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import CorruptDatasetError


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureRow:
    """An utterance's features, or a stretch or sample of them.

    Attributes:
        utterance_id: The utterance.
        first_frame: Place of the first frame in the utterance.
        frames: Places of all frames (T,).
        cells: By layer, float16 (T, D), a view of the file's bytes.
    """

    utterance_id: str
    first_frame: int
    frames: np.ndarray
    cells: Mapping[int, np.ndarray]


def feature_rows(table: pa.Table, layers: Sequence[int], dim: int, source: str) -> Iterator[FeatureRow]:
    """Give the rows of a table without copying their cells.

    Args:
        table: Rows of a features file.
        layers: Layers wanted.
        dim: Width of the features (D).
        source: URI of the file, for messages.

    Raises:
        CorruptDatasetError: A cell has another size than its row says.
    """
    sampled = "frame_index" in table.column_names
    for row in range(table.num_rows):
        utterance_id = table["utterance_id"][row].as_py()
        first, count = table["first_frame"][row].as_py(), table["num_frames"][row].as_py()
        frames = table["frame_index"][row].values.to_numpy() if sampled else np.arange(first, first + count)
        cells = {}
        for layer in layers:
            cell = table[schema.layer_column(layer)][row].as_buffer()
            if cell.size != 2 * dim * count or len(frames) != count:
                raise CorruptDatasetError(
                    f"{source}: layer {layer} of {utterance_id} has {cell.size / (2 * dim):g} frames, "
                    f"num_frames says {count}; run verify_dataset"
                )
            cells[layer] = np.frombuffer(cell, "<f2").reshape(count, dim)
        yield FeatureRow(utterance_id=utterance_id, first_frame=first, frames=frames, cells=cells)
