"""Clean utterances, noises and rooms made on the spot, their manifests, and what mix_corpus is asked for."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
from made_audio import RATE

from pipeline.audio.mixtures.settings import MixCorpusConfig
from pipeline.audio.stage import BuildManifestConfig, build_manifest

SPLITS = ("train", "test")


def speech(seconds, seed, rate=RATE):
    """Make syllables of low noise with pauses between, float64 (S,), its largest sample 0.9."""
    rng = np.random.default_rng(seed)
    waveform = rng.standard_normal(int(seconds * rate))
    syllables = np.repeat(rng.random(int(seconds * 5) + 1) > 0.4, rate // 5)[: len(waveform)]
    syllables[: rate // 10] = True
    waveform = np.convolve(waveform * syllables, np.hanning(9), "same")
    waveform -= waveform.mean()
    return 0.9 * waveform / np.abs(waveform).max()


def write_recordings(folder, waveforms, *, labels=None, rates=None):
    """Write recordings, a listing of them with labels, and its manifest in small shards; gives the manifest."""
    folder.mkdir(parents=True)
    lines = []
    for name, waveform in waveforms.items():
        soundfile.write(folder / f"{name}.wav", waveform, (rates or {}).get(name, RATE))
        lines.append(json.dumps({"utterance_id": name, "uri": f"{name}.wav"} | (labels or {}).get(name, {})))
    (folder / "listing.jsonl").write_text("\n".join(lines) + "\n")
    return manifest_of(folder / "listing.jsonl", folder / "manifest")


def manifest_of(corpus, output, layout="listing", **settings):
    """Build a manifest in shards of about two utterances."""
    build_manifest(
        BuildManifestConfig.of(
            **{"corpus": str(corpus), "layout": layout, "output": str(output), "shard_minutes": 0.06, "runner": "here"}
            | settings
        )
    )
    return str(output)


def write_clean(folder, count=6, **settings):
    """Write utterances of 1.0 s and longer, whose splits take turns."""
    waveforms = {f"u.{number}": speech(1.0 + 0.3 * number, number) for number in range(count)}
    labels = {
        name: {"split": SPLITS[number % 2], "speaker": f"s{number % 3}", "text": f"words {number}"}
        for number, name in enumerate(waveforms)
    }
    return write_recordings(folder, waveforms, labels=labels, **settings)


def write_noises(folder, splits=()):
    """Write a long noise, a short one and one that begins with silence; splits take turns where there are any."""
    rng = np.random.default_rng(7)
    waveforms = {
        "long": 0.1 * rng.standard_normal(20 * RATE),
        "short": 0.2 * rng.standard_normal(RATE // 3),
        "late": 0.1 * np.r_[np.zeros(8 * RATE), rng.standard_normal(4 * RATE)],
        "other": 0.3 * rng.standard_normal(3 * RATE),
    }
    waveforms = {name: np.clip(waveform, -0.99, 0.99) for name, waveform in waveforms.items()}
    labels = {name: {"split": splits[number % len(splits)]} for number, name in enumerate(waveforms) if splits}
    return write_recordings(folder, waveforms, labels=labels)


def write_rooms(folder, splits=(), delay=400):
    """Write decaying responses whose direct path comes late and with the other sign."""
    waveforms = {}
    for number in range(2):
        tail = np.random.default_rng(number).standard_normal(RATE // 4) * np.exp(-np.arange(RATE // 4) / 800)
        waveforms[f"room{number}"] = np.r_[np.zeros(delay), -0.8, 0.1 * tail]
    labels = {name: {"split": splits[number % len(splits)]} for number, name in enumerate(waveforms) if splits}
    return write_recordings(folder, waveforms, labels=labels)


def mixing(manifest, noises, output, **settings):
    given = {"manifest": manifest, "noises": noises, "output": str(output), "runner": "here", **settings}
    return MixCorpusConfig.of(**given)


def rows_of(output):
    """Give the rows of mixtures by id, in order, each with its samples float64 (S,)."""
    found = {}
    for path in sorted(Path(output).glob("shard-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
            assert (len(samples), rate) == (row["num_samples"], row["sample_rate"])
            found[row["utterance_id"]] = row | {"samples": samples}
    return found
