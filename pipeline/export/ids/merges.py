"""The merges of unit BPE that an export has: those of its first part, for all parts."""

from collections.abc import Iterator

import numpy as np

from pipeline import faults
from pipeline.export.grouping import key_of
from pipeline.export.ids import bpe
from pipeline.export.ids.rows import PlainEncoder, token_cells
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_unit
from pipeline.store.storage import Store


def unit_bpe(store: Store, tokens: Dataset, encode: PlainEncoder, *, num_merges: int, max_ids: int) -> bytes:
    """Read the merges of an export, or train them on the part that is the first.

    Args:
        store: The export's folder.
        tokens: The tokens dataset of this part.
        encode: Turns its utterances into ids, without merges.
        num_merges: Merges wanted.
        max_ids: Ids to train on, about.
    """
    if not store.exists(bpe.FILE):
        trained = bpe.train(_training_ids(tokens, encode, max_ids), encode.vocabulary, num_merges)
        store.create(bpe.FILE, trained.to_bytes())
    faults.point("after_merges", store.uri)
    return store.read(bpe.FILE)


def _training_ids(tokens: Dataset, encode: PlainEncoder, max_ids: int) -> Iterator[np.ndarray]:
    """Give ids of whole units, in an order that a hash of their names says, until there are enough."""
    left = max_ids
    for unit in sorted(tokens.plan.units, key=lambda unit: key_of(unit, "bpe")):
        for utterance_id, cells in token_cells(read_unit(tokens, unit), encode.pattern.columns):
            if left <= 0:
                return
            ids = np.concatenate([stretch.ids for stretch in encode(utterance_id, cells)] or [np.zeros(0, np.int64)])
            left -= len(ids)
            yield ids
