"""Whether word times and a document pattern meet the utterances that are exported, before anything is written.

Reads the ids of the tokens, and the word times once. Memory: all ids, about 150 bytes each, 250 with escapes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.audio.alignment import Alignment, Names
from pipeline.audio.manifest import decode_id
from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Matching:
    """What was met.

    Attributes:
        utterances: Utterances that are exported.
        matched: How many of them have words, and how many the pattern names a document of; by setting.
        plain_names: The settings that meet some of them by what their ids encode alone.
        passed_over: Utterances and names that were not met.
    """

    utterances: int = 0
    matched: Mapping[str, int] = field(default_factory=dict)
    plain_names: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)


def match(tokens: Dataset, words: str | None, grouping: Grouping) -> Matching:
    """Look for the utterances of some tokens in word times, and with a document pattern.

    Args:
        tokens: The tokens dataset.
        words: URI of an alignment whose labels are words, None without.
        grouping: What a document is.

    Raises:
        SettingsError: The word times have no utterance of these tokens, or the pattern finds none.
    """
    if words is None and grouping.pattern is None:
        return Matching()
    ids = [name for column in _ids(tokens) for name in column.to_pylist()]
    matched: dict[str, int] = {}
    plain_names, passed_over = [], PassedOver()
    if words is not None:
        matched["words"], by_plain_name = _match_words(words, ids, passed_over)
        plain_names += ["words"] * by_plain_name
    if grouping.pattern is not None:
        matched["document_pattern"], by_plain_name = _match_pattern(grouping, ids, passed_over)
        plain_names += ["document_pattern"] * by_plain_name
    return Matching(utterances=len(ids), matched=matched, plain_names=tuple(plain_names), passed_over=passed_over)


def _ids(tokens: Dataset) -> Iterator[pa.ChunkedArray]:
    for unit in tokens.plan.units:
        with tokens.store.open(tokens.data_file(unit)) as file:
            yield pq.read_table(file, columns=["utterance_id"])["utterance_id"]


def _match_words(words: str, ids: list[str], passed_over: PassedOver) -> tuple[int, bool]:
    """Count the utterances that have words, and say whether any has them under what its id encodes."""
    names = Names(ids)
    met = np.zeros(len(names.ids), bool)
    unmet: set[str] = set()
    first, by_plain_name = "", False
    for batch in Alignment(words).batches():
        given = pc.unique(batch["utterance_id"])
        found = names.find(given)
        first = first or next(iter(given.to_pylist()), "")
        unmet.update(given.filter(pc.is_null(found)).to_pylist())
        by_plain_name |= bool(pc.any(pc.not_equal(given, found)).as_py())
        met[pc.index_in(found.drop_null(), names.ids).to_numpy(zero_copy_only=False)] = True
    if not met.any():
        raise SettingsError(
            f"the words of {words} name no utterance of these tokens: they have {first!r}, the tokens "
            f"{ids[0] if ids else 'none'!r}; give utterance_ids, or the names that they encode"
        )
    passed_over.add(Kind.UNMATCHED_IDS, len(unmet), example=min(unmet, default=""), name="words")
    without = names.ids.filter(pa.array(~met))
    example = without[0].as_py() if len(without) else ""
    passed_over.add(Kind.WITHOUT_WORDS, len(without), example=example)
    return int(met.sum()), by_plain_name


def _match_pattern(grouping: Grouping, ids: list[str], passed_over: PassedOver) -> tuple[int, bool]:
    """Count the utterances whose document the pattern names, and say whether it does so in what an id encodes."""
    unmet = 0
    by_plain_name = False
    for utterance_id in ids:
        if grouping.found(utterance_id) is not None:
            continue
        plain = decode_id(utterance_id)
        if plain is not None and grouping.found(plain) is not None:
            by_plain_name = True
        else:
            unmet += 1
            passed_over.add(Kind.UNMATCHED_PATTERN, example=utterance_id)
    if unmet == len(ids):
        raise SettingsError(
            f"document_pattern {grouping.pattern!r} finds a document in no utterance_id of these tokens, nor in what "
            f"it encodes; the first is {ids[0] if ids else 'none'!r}"
            + (f", which encodes {decode_id(ids[0])!r}" if ids and decode_id(ids[0]) != ids[0] else "")
        )
    return len(ids) - unmet, by_plain_name
