"""Every column of every dataset on disk, in this one place.

A layer's column is ``layer_07``; features keep it as raw bytes because a nested list column writes at 28 MB/s
and reads at 100 MB/s where binary does 500 and 900 (60 utterances of (500, 768) float16, pyarrow 26, 2 cores).
Tokens of a residual stage have a column of their own: ``layer_07_q1`` beside ``layer_07``, which is stage 0.
"""

from collections.abc import Sequence
from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 2
"""Goes up when a column changes its name, type or meaning."""

LINEAGE_KEY = b"strata"
"""The one key of Parquet footers that holds our lineage, as sorted JSON."""


class Reason(StrEnum):
    """Why an utterance is in ``_rejects``."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_A_FILE = "not_a_file"
    OUTSIDE_ROOT = "outside_root"
    EMPTY = "empty"
    NOT_AUDIO = "not_audio"
    TRUNCATED = "truncated"
    HEADER_LIES = "header_lies"
    NOT_FINITE = "not_finite"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_MANY_CHANNELS = "too_many_channels"
    BAD_SAMPLE_RATE = "bad_sample_rate"
    BAD_SEGMENT = "bad_segment"
    BAD_ROW = "bad_row"
    NO_SEGMENT = "no_segment"
    NO_SPEECH = "no_speech"
    DUPLICATE_ID = "duplicate_id"
    SILENT = "silent"
    SILENT_NOISE = "silent_noise"
    DECODER_CRASH = "decoder_crash"
    DECODER_TIMEOUT = "decoder_timeout"
    DECODER_MEMORY = "decoder_memory"
    ENCODER_CRASH = "encoder_crash"
    ENCODER_MEMORY = "encoder_memory"
    FEATURE_OVERFLOW = "feature_overflow"
    EMPTY_TEXT = "empty_text"
    UNKNOWN_CHARACTERS = "unknown_characters"
    UNKNOWN_SPEAKER = "unknown_speaker"
    NO_STOP = "no_stop"


TRANSIENT = (
    Reason.MISSING,
    Reason.UNREADABLE,
    Reason.DECODER_CRASH,
    Reason.DECODER_TIMEOUT,
    Reason.DECODER_MEMORY,
    Reason.ENCODER_CRASH,
    Reason.ENCODER_MEMORY,
)
"""Reasons that may have been a matter of the moment, or of the machine: ``--redo-rejects`` asks again."""


MANIFEST = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset_samples", pa.int64(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("sample_rate", pa.int32(), nullable=False),
        pa.field("channel", pa.int32()),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("emotion", pa.string()),
        pa.field("language", pa.string()),
        pa.field("split", pa.string()),
        pa.field("clean_uri", pa.string()),
        pa.field("member", pa.string()),
        pa.field("byte_offset", pa.int64()),
        pa.field("num_bytes", pa.int64()),
        pa.field("row_group", pa.int32()),
        pa.field("row", pa.int64()),
    ]
)
"""``offset_samples`` and ``num_samples`` count samples of the source at its ``sample_rate`` (Hz).
``channel`` is the one channel to read; null means the mean of all channels. The recording is the whole file ``uri``,
or the part of it named by ``PART``."""

PART = ("member", "byte_offset", "num_bytes", "row_group", "row")
"""The manifest columns that place a recording inside its file: ``num_bytes`` from ``byte_offset`` on for the member
of a tar; the cell in column ``member``, row ``row`` of row group ``row_group`` for Parquet; all null for a plain
file."""

PIECES = pa.field(
    "pieces",
    pa.list_(
        pa.struct(
            [
                pa.field("silence_samples", pa.int64(), nullable=False),
                *(
                    MANIFEST.field(name)
                    for name in (
                        "utterance_id",
                        "uri",
                        "offset_samples",
                        "num_samples",
                        "sample_rate",
                        "channel",
                        *PART,
                    )
                ),
            ]
        )
    ),
    nullable=False,
)
"""What a joined utterance is made of, in order: the place of each piece as a row of a manifest has it, behind
``silence_samples`` of silence at the piece's own ``sample_rate``."""

JOINED_MANIFEST = pa.schema([*MANIFEST, PIECES])
"""The manifest of a joined corpus. ``sample_rate`` is the highest of the pieces and ``num_samples`` their sum at it,
with silences; ``uri`` is that of the first piece, and ``member`` the utterance's own id, so that no two rows name one
recording. A reader that knows no pieces finds no range of bytes there, and rejects the row."""

LABELS = ("text", "speaker", "emotion", "language", "split", "clean_uri")
"""The manifest columns that a corpus may leave null."""

ALIGNMENT = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
    ]
)
"""What is read of an alignment, a file of labelled intervals. Times count from the beginning of the utterance."""

REJECTS = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

SHARDS = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
        pa.field("num_rejects", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("num_frames", pa.int64(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("rejects_sha256", pa.string()),
        pa.field("numerics", pa.string(), nullable=False),
    ]
)
"""``_shards.parquet`` of every dataset: its commits, one row each."""

MANIFEST_INDEX = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("footer_sha256", pa.string(), nullable=False),
    ]
)
"""``_index.parquet`` of a manifest: where each shard's rows lie."""


STRATA = pa.schema(
    [
        pa.field("value", pa.string()),
        pa.field("num_frames", pa.int64(), nullable=False),
        pa.field("sample_frames", pa.int64(), nullable=False),
        pa.field("last_hash", pa.uint64()),
    ]
)
"""``_strata.parquet`` of features that are a sample of exact size: how many frames each value of the manifest's column
has by the manifest, how many are kept, and the highest hash that is kept (null: none is). One row without a value where
no column divides the sample."""


def layer_column(layer: int) -> str:
    """Name the column of a layer, as ``layer_07``."""
    return f"layer_{layer:02d}"


def token_column(layer: int, quantizer: int = 0) -> str:
    """Name the column of a layer's tokens, as ``layer_07``, and ``layer_07_q1`` for those of residual stage 1."""
    return layer_column(layer) + _stage(quantizer)


def codebook_unit(layer: int, num_clusters: int, quantizer: int = 0) -> str:
    """Name the unit of a codebook, as ``layer_07_k1000``, and ``layer_07_k1000_q1`` for that of residual stage 1."""
    return f"{layer_column(layer)}_k{num_clusters}{_stage(quantizer)}"


def codebook_name(layer: int, num_clusters: int, quantizer: int = 0) -> str:
    """Name the file of a codebook, as ``layer_07_k1000.safetensors``."""
    return f"{codebook_unit(layer, num_clusters, quantizer)}.safetensors"


def _stage(quantizer: int) -> str:
    return f"_q{quantizer}" if quantizer else ""


def features(layers: Sequence[int], *, sampled: bool) -> pa.Schema:
    """Give the columns of a features dataset.

    Args:
        layers: Encoder layers, one binary column each: row-major little-endian float16 (T, D).
        sampled: Whether rows hold a sample of the frames; adds ``frame_index``, the frame numbers kept.
    """
    fields = [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("first_frame", pa.int64(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
    ]
    if sampled:
        fields.append(pa.field("frame_index", pa.list_(pa.int32()), nullable=False))
    fields += [pa.field(layer_column(layer), pa.large_binary(), nullable=False) for layer in layers]
    return pa.schema(fields)


def tokens(columns: Sequence[str]) -> pa.Schema:
    """Give the columns of a tokens dataset.

    Args:
        columns: As ``token_column`` names them, one for each layer and residual stage: list<uint16> of length
            ``num_frames``.
    """
    fields = [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
    ]
    fields += [pa.field(column, pa.list_(pa.uint16()), nullable=False) for column in columns]
    return pa.schema(fields)


SPEECH = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field(
            "audio",
            pa.struct([pa.field("bytes", pa.binary(), nullable=False), pa.field("path", pa.string(), nullable=False)]),
            nullable=False,
        ),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("sample_rate", pa.int32(), nullable=False),
        *(MANIFEST.field(name) for name in ("text", "speaker", "emotion", "language", "split")),
    ]
)
"""Spoken tokens: one row per utterance. ``audio`` is a FLAC file in the form that the Hugging Face Hub's viewers and
``datasets`` know; the labels are those of the manifest that the tokens were made from."""


MIXTURES = pa.schema(
    [
        *SPEECH,
        pa.field("clean_uri", pa.string(), nullable=False),
        pa.field("snr_db", pa.float64(), nullable=False),
        pa.field("noise", pa.string(), nullable=False),
        pa.field("room", pa.string()),
        pa.field("gain_db", pa.float64(), nullable=False),
    ]
)
"""Utterances with noise: one row per utterance and pass. ``clean_uri`` names the clean recording as
``pipeline/audio/partners.py`` says, ``noise`` and ``room`` are ids of the manifests that they were drawn from.
``gain_db`` is what the whole mixture was multiplied with, at most 0: below it where it would have passed full scale."""


def with_lineage(schema: pa.Schema, lineage: str) -> pa.Schema:
    """Attach lineage to a schema, so that it travels in the footer of every file.

    Args:
        schema: Columns of a dataset.
        lineage: JSON with sorted keys; nothing that differs between attempts may be in it.
    """
    return schema.with_metadata({LINEAGE_KEY: lineage.encode()})


_ORIGIN = (
    pa.field("uri", pa.string()),
    pa.field("offset_seconds", pa.float64()),
    pa.field("seconds", pa.float64(), nullable=False),
    pa.field("speaker", pa.string()),
    pa.field("language", pa.string()),
    pa.field("text", pa.string()),
)
"""What exports know of where ids come from."""

SEQUENCES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("first_frame", pa.int64(), nullable=False),
        pa.field("num_frames", pa.int64(), nullable=False),
        pa.field("num_kept", pa.int64(), nullable=False),
        pa.field("num_ids", pa.int64(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("document", pa.uint64(), nullable=False),
        pa.field("valid", pa.bool_(), nullable=False),
        pa.field("ids", pa.large_binary(), nullable=False),
        pa.field("durations", pa.large_binary()),
        pa.field("loss_mask", pa.large_binary()),
        pa.field("prefix", pa.list_(pa.int32()), nullable=False),
        *_ORIGIN,
    ]
)
"""One row for each stretch of an utterance, which is all of it unless it passes the maximum length: ``num_ids``
little-endian numbers in ``ids`` (uint16 or int32, as the vocabulary says) that stand for ``num_frames`` frames from
``first_frame`` on, of which ``num_kept`` are left after deduplication; ``durations`` int32, one each;
``loss_mask`` one byte an id. ``document`` is a hash of ``document_id``; ``prefix`` are the ids of special tokens with
which its document begins."""

STRETCHES = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("num_ids", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("first_frame", pa.int64(), nullable=False),
        pa.field("num_frames", pa.int64(), nullable=False),
        *_ORIGIN,
        pa.field("durations", pa.list_(pa.int32())),
    ]
)
"""What exports say of where their ids come from: one row for each stretch of an utterance in a document, in order.
``document`` is its number in the shard; the stretch's ids are ``num_ids`` from ``start`` on, counted from the first id
of the document, and stand for ``num_frames`` frames of the utterance from ``first_frame`` on. ``durations`` are there
where frames were deduplicated."""
