"""A tokens dataset with its manifest, a vocoder of random weights that fits it, and what synthesize is asked for."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from made_fusion import make_books
from made_tokens import Made as MadeUtterance
from made_tokens import write_manifest
from made_vocoder import HOP, lineage, spec, vocoder

from pipeline import schema
from pipeline.store.completion import finish, success
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.vocoder.saved import write_vocoder

COLUMNS = ("layer_01", "layer_03", "layer_06")
LENGTHS = (23, 14, 61, 9, 30, 30, 12, 140, 5, 33)
RATE = 4000


def ids_of(length, seed, books):
    rng = np.random.default_rng(seed)
    return {book.column: rng.integers(book.num_clusters, size=length).astype(np.uint16) for book in books}


def write_spoken_corpus(folder, *, lengths=LENGTHS, per_shard=4, speakers=(), past=None, books=None, clean=None):
    """Write recordings of silence, their manifest and random tokens; gives the tokens by utterance id.

    ``past`` is an utterance one of whose ids is none of its codebook's; ``clean`` a folder of their clean partners.
    """
    books = books or make_books()
    (folder / "audio").mkdir(parents=True)
    made, tokens, labels = [], {}, {}
    for number, length in enumerate(lengths):
        name = f"spk.{number % 2}_u{number:03d}"
        path = folder / "audio" / f"{name}.wav"
        waveform = np.zeros(length * HOP, np.float32)
        soundfile.write(path, waveform, RATE)
        made.append(MadeUtterance(name, str(path), waveform, RATE, np.zeros(length, np.uint16)))
        tokens[name] = ids_of(length, number, books)
        labels[name] = {"text": f"words {number}", "split": "test"}
        if clean is not None:
            labels[name]["clean_uri"] = str(clean / "audio" / f"{name}.wav")
        if speakers:
            labels[name]["speaker"] = speakers[number % len(speakers)]
        if number == past:
            tokens[name]["layer_03"][1] = 7
    manifest = write_manifest(folder / "manifest", made, per_shard=per_shard, labels=labels)
    told = {**lineage(books), "sample_rate": RATE, "encoder": "made", "frame_rate": RATE / HOP, "layers": [1, 3, 6]}
    names = list(tokens)
    parts = [names[start : start + per_shard] for start in range(0, len(names), per_shard)]
    units = [f"shard-{number:05d}" for number in range(len(parts))]
    content = {"input_sha256": success(manifest)["dataset_sha256"]}
    dataset = Dataset.create(str(folder / "tokens"), Plan(kind="tokens", content=content, lineage=told, units=units))
    fields = schema.tokens(COLUMNS)
    for unit, part in zip(units, parts, strict=True):
        frames = [len(tokens[name]["layer_01"]) for name in part]
        cells = {"utterance_id": part, "num_frames": frames}
        cells |= {column: [tokens[name][column].tolist() for name in part] for column in COLUMNS}
        table = pa.table({field.name: pa.array(cells[field.name], field.type) for field in fields}, schema=fields)
        seconds = sum(frames) * HOP / RATE
        output = Output(data=parquet_bytes(table, told), rows=len(part), seconds=seconds, num_frames=sum(frames))
        dataset.commit(unit, dataset.announce(unit), output, {})
    finish(dataset)
    return tokens


def write_small_vocoder(folder, *, voices=None, speaker_encoder=None, **settings):
    """Write a vocoder of random weights."""
    made = replace(spec(**settings), sample_rate=RATE, speaker_encoder=speaker_encoder)
    write_vocoder(str(folder), made, vocoder(made).state_dict(), voices=voices)


def config_of(folder, output, **settings):
    given = {} if "export" in settings else {"tokens": str(folder / "tokens")}
    return SynthesizeConfig.of(
        **{"vocoder": str(folder / "vocoder"), "output": str(output), "runner": "here"} | given | settings
    )


def shards(output):
    """Give the bytes of the shards of speech by name."""
    return {path.name: path.read_bytes() for path in sorted(Path(output).glob("shard-*.parquet"))}


def rows_of(output):
    """Give the rows of speech by utterance id."""
    return {
        row["utterance_id"]: row
        for data in shards(output).values()
        for row in pq.read_table(io.BytesIO(data)).to_pylist()
    }


def samples_of(row):
    """Decode the recording of a row, int16 (S,)."""
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    assert rate == row["sample_rate"]
    return samples
