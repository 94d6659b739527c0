"""Speech-like audio whose tokens are known, its manifest and its tokens, written without Ray or an encoder."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import INDEX
from pipeline.batches.augment import AugmentSettings
from pipeline.pretraining.source import DataSettings
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan, canonical, parquet_bytes, sha256
from pipeline.store.reading import footer_sha256

CLOCK = Clock(sample_rate=16_000, hop_length=320, receptive_field=400)
NUM_CLUSTERS = 8


@dataclass(frozen=True)
class Made:
    """An utterance: its recording, and the token of each of its frames (T,)."""

    utterance_id: str
    path: str
    waveform: np.ndarray
    rate: int
    tokens: np.ndarray


def tones(num_samples, rng, rate=16_000):
    """Make a waveform of tones that last 60 to 300 ms each, and the token of each frame: the tone at its centre."""
    most = num_samples // (rate // 16) + 1
    tone_S = np.repeat(rng.integers(NUM_CLUSTERS, size=most), rng.integers(rate // 16, rate // 3, most))[:num_samples]
    phase_S = np.cumsum(2 * np.pi * (250 + 400 * tone_S) / rate)
    waveform = 0.3 * np.sin(phase_S) + 0.01 * rng.standard_normal(num_samples)
    frames_T = np.arange(CLOCK.num_frames(num_samples * CLOCK.sample_rate // rate))
    centres = frames_T * CLOCK.hop_length + CLOCK.receptive_field // 2
    return waveform.astype(np.float32), tone_S[centres * rate // CLOCK.sample_rate].astype(np.uint16)


def speak(folder, seconds, *, seed=0, rates=(16_000,)):
    """Write a recording of each length in seconds; their rates take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(seconds):
        rate = rates[number % len(rates)]
        waveform, tokens = tones(int(length * rate), rng, rate)
        path = folder / f"u{number:03d}.wav"
        soundfile.write(path, waveform, rate)
        made.append(Made(f"u{number:03d}", str(path), waveform, rate, tokens))
    return made


def write_manifest(folder, made, *, per_shard=4, labels=None):
    """Write the manifest of utterances, a few in each shard, with the labels of each by its id."""
    parts = [made[start : start + per_shard] for start in range(0, len(made), per_shard)]
    roots = sorted({str(utterance.path).rsplit("/", 1)[0] for utterance in made})
    lineage = {"kind": "manifest", "roots": roots}
    content = {"ids": [utterance.utterance_id for utterance in made], "roots": roots}
    dataset = Dataset.create(
        str(folder), Plan(kind="manifest", content=content, lineage=lineage, units=["manifest-00000"])
    )
    columns = schema.with_lineage(schema.MANIFEST, canonical(lineage))
    sink, index = pa.BufferOutputStream(), []
    with pq.ParquetWriter(sink, columns, write_page_checksum=True) as writer:
        for number, part in enumerate(parts):
            rows = [_row(utterance, number) | (labels or {}).get(utterance.utterance_id, {}) for utterance in part]
            writer.write_table(pa.Table.from_pylist(rows, schema=columns))
            seconds = sum(len(utterance.waveform) / utterance.rate for utterance in part)
            place = {"shard": number, "file": "manifest-00000.parquet", "row_group": number}
            index.append({**place, "num_rows": len(part), "seconds": seconds})
    data = sink.getvalue()
    footer = footer_sha256(pa.BufferReader(data))
    dataset.commit("manifest-00000", dataset.announce("manifest-00000"), Output(data=memoryview(data), rows=0), {})
    table = pa.Table.from_pylist([{**place, "footer_sha256": footer} for place in index], schema=schema.MANIFEST_INDEX)
    dataset.store.write(INDEX, parquet_bytes(table, {}))
    finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    return dataset


def _row(utterance, shard):
    return {
        **dict.fromkeys(schema.MANIFEST.names),
        "utterance_id": utterance.utterance_id,
        "uri": utterance.path,
        "offset_samples": 0,
        "num_samples": len(utterance.waveform),
        "sample_rate": utterance.rate,
        "channel": 0,
        "shard": shard,
    }


def write_tokens(folder, made, *, per_shard=4, input_sha256="m" * 64, columns=("layer_00",), parts=None):
    """Write the tokens of utterances; each further column has the tokens of the one before it plus one.

    ``parts`` are the utterances of each shard, where some of a manifest's have no tokens.
    """
    parts = parts or [made[start : start + per_shard] for start in range(0, len(made), per_shard)]
    units = [f"shard-{number:05d}" for number in range(len(parts))]
    lineage = {
        "encoder": "made",
        "encoder_sha256": "e" * 64,
        "sample_rate": CLOCK.sample_rate,
        "hop_length": CLOCK.hop_length,
        "receptive_field": CLOCK.receptive_field,
        "frame_rate": 50.0,
        "codebooks": {column: "c" * 64 for column in columns},
        "num_clusters": dict.fromkeys(columns, NUM_CLUSTERS),
    }
    plan = Plan(kind="tokens", content={"input_sha256": input_sha256}, lineage=lineage, units=units)
    dataset = Dataset.create(str(folder), plan)
    fields = schema.tokens(columns)
    for unit, part in zip(units, parts, strict=True):
        values = {"utterance_id": [u.utterance_id for u in part], "num_frames": [len(u.tokens) for u in part]}
        for place, column in enumerate(columns):
            values[column] = [((u.tokens + place) % NUM_CLUSTERS).tolist() for u in part]
        table = pa.table({field.name: pa.array(values[field.name], field.type) for field in fields}, schema=fields)
        output = Output(data=parquet_bytes(table, lineage), rows=len(part))
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)
    return dataset


def write_corpus_of_tones(folder, seconds, *, per_shard=4, columns=("layer_00",), labels=None, **how):
    """Write recordings, manifest and tokens below a folder, and give the utterances."""
    made = speak(folder / "audio", seconds, **how)
    manifest = write_manifest(folder / "manifest", made, per_shard=per_shard, labels=labels)
    digest = manifest.store.read("_SUCCESS").decode().split('"dataset_sha256":"')[1][:64]
    write_tokens(folder / "tokens", made, per_shard=per_shard, input_sha256=digest, columns=columns)
    return made


def data_settings(folder, **settings):
    """Give what a source of such a corpus reads; small crops, a quarter for validation, nothing augmented."""
    augment = {name: settings.pop(name) for name in AugmentSettings.__dataclass_fields__ if name in settings}
    return DataSettings(
        **{
            "manifest": str(folder / "manifest"),
            "tokens": str(folder / "tokens"),
            "columns": ("layer_00",),
            "clock": CLOCK,
            "normalize": True,
            "seed": 0,
            "max_samples": 4 * 16_000,
            "crop_seconds": 1.0,
            "min_frames": 10,
            "mask_probability": 0.65,
            "mask_length": 10,
            "shuffle_hours": 8.0,
            "valid_fraction": 0.25,
            "valid_minutes": 10.0,
            "cache_bytes": 1 << 24,
            "augment": AugmentSettings(**augment),
            **settings,
        }
    )
