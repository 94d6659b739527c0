"""A corpus of tones with labels that its tokens tell: texts of its tones, speakers and emotions by what they hold."""

from collections import Counter
from dataclasses import replace
from itertools import chain, groupby

import numpy as np
from made_tokens import speak, write_manifest, write_tokens

from pipeline.tasks.asr.text import build_alphabet, transcript_parts
from pipeline.tasks.settings import TrainTaskConfig

COLUMNS = ("layer_00", "layer_03", "layer_06")
SMALL = {
    "embedding_dim": 16,
    "lstm_layers": 1,
    "lstm_width": 16,
    "ecapa_channels": 16,
    "ecapa_pooled": 24,
    "ecapa_attention": 8,
    "embedding_width": 12,
    "num_steps": 6,
    "warmup_steps": 1,
    "batch_seconds": 6.0,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "threads_per_worker": 1,
    "runner": "here",
    "valid_fraction": 0.3,
}

SMALL_TTS = {"text_layers": 1, "token_layers": 2, "tts_width": 16, "tts_heads": 2, "tts_ffn": 24}


def counted(settings, transcripts):
    """Count what an alphabet is made of, by name."""
    return {part.name: Counter(chain.from_iterable(map(part.of, transcripts))) for part in transcript_parts(settings)}


def alphabet_of(settings, transcripts):
    """Make the alphabet of transcripts."""
    found = counted(settings, transcripts)
    return build_alphabet(settings, found["characters"], found.get("words", {}))


def labels_of(made, number):
    """Give the labels of an utterance: its tones as letters, whether they are high, and one of four speakers."""
    text = "".join("abcdefgh"[tone] for tone, _ in groupby(made.tokens.tolist()))
    emotion = "high" if np.median(made.tokens) >= 4 else "low"
    return {
        "text": text,
        "emotion": emotion,
        "speaker": f"s{number % 4}",
        "split": "test" if number % 5 == 4 else "train",
    }


def write_task_corpus(folder, count=40, *, seed=5, change=lambda labels: labels, rename=lambda name: name):
    """Write manifest and tokens of utterances of 0.6 to 1.8 s below a folder, and give the labels by id."""
    rng = np.random.default_rng(seed)
    spoken = speak(folder / "audio", rng.uniform(0.6, 1.8, count), seed=seed - 5)
    made = [replace(one, utterance_id=rename(one.utterance_id)) for one in spoken]
    return write_task_datasets(folder, made, change=change)


def write_task_datasets(folder, made, *, change=lambda labels: labels):
    """Write manifest and tokens of utterances below a folder, local or s3://, and give the labels by id."""
    labels = {one.utterance_id: change(labels_of(one, number)) for number, one in enumerate(made)}
    manifest = write_manifest(f"{folder}/manifest", made, per_shard=8, labels=labels)
    digest = manifest.store.read("_SUCCESS").decode().split('"dataset_sha256":"')[1][:64]
    write_tokens(f"{folder}/tokens", made, per_shard=8, input_sha256=digest, columns=COLUMNS)
    return labels


def task_config(folder, output, task, **changes):
    """Give the settings of a small run on such a corpus."""
    inputs = {"manifest": f"{folder}/manifest", "tokens": f"{folder}/tokens"}
    divided = {"test_speakers": ("s1",)} if task == "er" else {}
    divided |= SMALL_TTS if task == "tts" else {}
    return TrainTaskConfig.of(task=task, output=str(output), **{**SMALL, **inputs, **divided, **changes})


def job_flags(config):
    """Give the flags of a job that has these settings, without those that are as usual."""
    given = config.flat()
    needed = {name: given[name] for name in ("task", "output", "manifest", "num_steps", "warmup_steps", "tokens")}
    usual = TrainTaskConfig.of(**needed).flat()
    words = []
    for name, value in given.items():
        if name in needed or value != usual[name]:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return words
