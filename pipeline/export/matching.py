"""Whether word times, a document pattern and labels meet the utterances that are exported, before anything is written.

Reads the ids of the tokens, the word times and the labels once, where a setting names them. Memory: all ids, about 150
bytes each, 250 with escapes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.audio.alignment import Alignment, Names
from pipeline.audio.loading import Manifest
from pipeline.audio.manifest import decode_id
from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping
from pipeline.export.ids.prefix import fields_of
from pipeline.export.settings import ExportTokensConfig
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import LABELS
from pipeline.store.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Matching:
    """What was met.

    Attributes:
        utterances: Utterances that are exported.
        matched: By setting, how many of them have words, a document by the pattern, or the label that it reads.
        plain_names: The settings that meet some of them by what their ids encode alone.
        passed_over: Utterances and names that were not met.
    """

    utterances: int = 0
    matched: Mapping[str, int] = field(default_factory=dict)
    plain_names: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)


def match(config: ExportTokensConfig, tokens: Dataset, manifest: Manifest | None) -> Matching:
    """Look for the utterances of some tokens in all that settings name.

    Args:
        config: Settings: words, a document pattern, and columns of the manifest.
        tokens: The tokens dataset.
        manifest: Their manifest, None without.

    Raises:
        SettingsError: The word times have no utterance of these tokens, the pattern finds none, or none has the label
            that divides them into documents or sides.
    """
    words, grouping, columns = config.words, config.grouping, _columns(config)
    if words is None and grouping.pattern is None and not columns:
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
    if manifest is not None and columns:
        matched |= _match_labels(manifest, columns, ids, passed_over)
    return Matching(utterances=len(ids), matched=matched, plain_names=tuple(plain_names), passed_over=passed_over)


def _columns(config: ExportTokensConfig) -> dict[str, str]:
    """Give the columns of the manifest that settings read, by setting."""
    columns = {f"prefix {column}": column for column in fields_of(config.prefix)}
    if config.split_by_speaker:
        columns["split_by_speaker"] = "speaker"
    if config.documents in LABELS:
        columns["documents"] = config.documents
    return columns


def _match_labels(
    manifest: Manifest, columns: Mapping[str, str], ids: list[str], passed_over: PassedOver
) -> dict[str, int]:
    """Count the utterances that have the labels which settings read."""
    wanted, found = pa.array(ids, pa.string()), dict.fromkeys(columns, 0)
    for _, rows in manifest.scan(sorted({"utterance_id", *columns.values()})):
        rows = rows.filter(pc.is_in(rows["utterance_id"], wanted))
        for column in sorted(set(columns.values())):
            without = rows.filter(pc.is_null(rows[column]))["utterance_id"]
            example = without[0].as_py() if len(without) else ""
            passed_over.add(Kind.WITHOUT_LABEL, len(without), example=example, name=column)
        for setting, column in columns.items():
            found[setting] += rows.num_rows - rows[column].null_count
    for setting in ("documents", "split_by_speaker"):
        if found.get(setting, 1) == 0:
            raise SettingsError(
                f"{setting} reads the {columns[setting]}, which no utterance of these tokens has in "
                f"{manifest.dataset.uri}, so that each would be by itself; leave the setting away, or build a manifest "
                "with that label"
            )
    return found


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
