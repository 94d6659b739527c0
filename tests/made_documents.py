"""Documents of an export, made as the formats are given them, and what they hold."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.export.formats.arrays import META, Documents, Spelling
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids.patterns import Pattern, encode
from pipeline.export.ids.vocabulary import BEGIN, END, SPEECH, Vocabulary

ONE_LAYER = ("slamkit", "fairseq")
NASTY = (
    'with "quotes"',
    "a, b; c",
    "back\\slash",
    "nul\x01 and tab\t",
    "\u00fcml\u00e4ut \u2028",
    "<|text|>",
    "%s %d {0}",
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A shard, and the ids and units of each of its documents."""

    documents: Documents
    spelling: Spelling
    ids: list[np.ndarray]
    units: list[np.ndarray]


def spelling(*, columns=("layer_07",), num_clusters=50, text_size=0, deduplicate=False, num_merges=0):
    """Give a vocabulary with these columns and the pattern that flattens them; 70,000 text ids make it int32."""
    sizes = dict.fromkeys(columns, num_clusters)
    return Spelling(
        vocabulary=Vocabulary.build(sizes, text_size=text_size, num_merges=num_merges, specials=[SPEECH]),
        pattern=Pattern(columns=tuple(columns), delays=(0,) * len(columns), deduplicate=deduplicate),
        frame_rate=50.0,
        lineage={"encoder": "made", "codebooks": {"layer_07": "0" * 64}},
    )


def made_shard(lengths, *, given=None, masked=False, framed=True, seed=0):
    """Make a shard.

    Args:
        lengths: For each document, the frames of each of its utterances.
        given: Its spelling; default one layer of 50 clusters, uint16.
        masked: Whether it has a loss mask.
        framed: Whether documents have begin and end tokens; else one without utterances is empty.
        seed: Seed of the tokens.
    """
    given = given or spelling()
    rng, vocabulary = np.random.default_rng(seed), given.vocabulary
    ids, units, rows = [], [], []
    for number, frames in enumerate(lengths):
        begin, end = ([vocabulary.special(name)] if framed else [] for name in (BEGIN, END))
        parts, local, place = [np.array(begin, np.int64)], [], len(begin)
        for utterance, num_frames in enumerate(frames):
            sequence = _sequence(rng, num_frames, given)
            rows.append(_row(number, utterance, place, num_frames, sequence))
            parts.append(sequence.ids)
            local.append(sequence.ids - vocabulary.units_start)
            place += len(sequence.ids)
        ids.append(vocabulary.check(np.concatenate([*parts, np.array(end, np.int64)])))
        units.append(np.concatenate([*local, np.zeros(0, np.int64)]))
    flat = np.concatenate([*ids, np.zeros(0, vocabulary.dtype)]).astype(vocabulary.dtype)
    documents = Documents(
        ids=flat,
        ends=np.cumsum([len(each) for each in ids], dtype=np.int64),
        meta=pa.Table.from_pylist(rows, schema=META),
        loss_mask=rng.random(len(flat)) < 0.5 if masked else None,
    )
    return Made(documents=documents, spelling=given, ids=ids, units=units)


def _sequence(rng, num_frames, given):
    # Runs, as speech has them, so that deduplication leaves something out.
    sizes = {block.name: block.size for block in given.vocabulary.layers}
    tokens = {name: np.repeat(rng.integers(0, size, num_frames), 3)[:num_frames] for name, size in sizes.items()}
    return encode(tokens, given.pattern, given.vocabulary)


def _row(number, utterance, place, num_frames, sequence):
    strange = NASTY[(number + utterance) % len(NASTY)]
    return {
        "document": number,
        "document_id": f"d{number} {strange}",
        "start": place,
        "num_ids": len(sequence.ids),
        "utterance_id": f"d{number}-u{utterance}",
        "first_frame": 0,
        "num_frames": num_frames,
        "uri": None if utterance % 3 == 2 else f"corpus/r {number}-{utterance}.flac",
        "offset_seconds": None if number % 2 else 1.5,
        "seconds": num_frames / 50 + 0.013,
        "speaker": None if number % 2 else f"s{number}",
        "language": "en",
        "text": strange,
        "durations": None if sequence.durations is None else sequence.durations.tolist(),
    }


def renamed(made, column, value):
    """Give the shard with one value in a column of its first row."""
    rows = made.documents.meta.to_pylist()
    rows[0][column] = value
    return replace(made, documents=replace(made.documents, meta=pa.Table.from_pylist(rows, schema=META)))


def write_files(folder, name, form, made):
    """Write a shard in a format, and give its files by ending."""
    files = FORMATS[form].write(made.documents, made.spelling)
    assert next(iter(files)) == FORMATS[form].EXTENSION
    for ending, content in files.items():
        (Path(folder) / f"{name}{ending}").write_bytes(content)
    return {ending: bytes(content) for ending, content in files.items()}


def same(found, expected):
    """Say whether two lists of arrays hold the same numbers."""
    found = list(found)
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))
