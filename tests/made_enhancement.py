"""Pairs of noisy and clean tokens: recordings of tones, and the same tones with a share of their tokens replaced.

And what enhance needs: pairs whose tokens a small vocoder speaks, and a task that was hardly trained on them.
"""

from dataclasses import replace

import numpy as np
from made_speech import write_small_vocoder, write_spoken_corpus
from made_tasks import COLUMNS, SMALL
from made_tokens import NUM_CLUSTERS, speak, write_manifest, write_tokens

from pipeline.enhancement.settings import EnhanceConfig
from pipeline.store.completion import success
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task

TINY = {
    "conformer_layers": 2,
    "conformer_width": 16,
    "conformer_heads": 2,
    "conformer_ffn": 24,
    "conformer_kernel": 5,
    "attention_frames": 6,
}
SPLIT = ("train", "train", "train", "train", "test")


def write_side(folder, made, *, labels=None, columns=COLUMNS, per_shard=8):
    """Write manifest and tokens of one side."""
    manifest = write_manifest(f"{folder}/manifest", made, per_shard=per_shard, labels=labels)
    digest = success(manifest)["dataset_sha256"]
    write_tokens(f"{folder}/tokens", made, per_shard=per_shard, input_sha256=digest, columns=columns)


def with_noise(tokens, share, rng):
    """Replace a share of the tokens by others."""
    wrong = rng.random(len(tokens)) < share
    return np.where(wrong, (tokens + rng.integers(1, NUM_CLUSTERS, len(tokens))) % NUM_CLUSTERS, tokens).astype(
        np.uint16
    )


def write_pairs(folder, count=30, *, seed=0, share=0.2, change=lambda name, labels: labels, columns=COLUMNS):
    """Write both sides below a folder, the clean one in other shards; gives noisy and clean utterances by noisy id.

    ``change`` gives the labels of a noisy utterance from those that it would have.
    """
    rng = np.random.default_rng(seed)
    clean = speak(folder / "audio", rng.uniform(0.6, 1.6, count), seed=seed)
    noisy = [
        replace(one, utterance_id=f"n{one.utterance_id}", tokens=with_noise(one.tokens, share, rng)) for one in clean
    ]
    labels = {}
    for number, one in enumerate(noisy):
        usual = {"clean_uri": one.path, "speaker": f"s{number % 3}", "split": SPLIT[number % 5]}
        labels[one.utterance_id] = change(one.utterance_id, usual)
    write_side(folder / "clean", clean[::-1], columns=columns, per_shard=5)
    write_side(folder / "noisy", noisy, labels=labels)
    return {one.utterance_id: (one, partner) for one, partner in zip(noisy, clean, strict=True)}


def se_config(folder, output, **changes):
    """Give the settings of a small run on such pairs."""
    inputs = {
        "manifest": f"{folder}/noisy/manifest",
        "tokens": f"{folder}/noisy/tokens",
        "clean_manifest": f"{folder}/clean/manifest",
        "clean_tokens": f"{folder}/clean/tokens",
    }
    return TrainTaskConfig.of(task="se", output=str(output), **{**SMALL, **TINY, **inputs, **changes})


def hardly_trained(folder, output, **changes):
    """Train a task se on pairs by a step that changes next to nothing: what it says depends on what it hears."""
    little = {"num_steps": 1, "warmup_steps": 0, "lr": 1e-9, "validate_every": 0, "valid_fraction": 0.0}
    train_task(se_config(folder, output, **{**little, "train_splits": ("test",), "test_splits": (), **changes}))


def write_spoken_pairs(folder, **corpus):
    """Write both sides of pairs, a vocoder that speaks their tokens and a task; gives the noisy tokens by id.

    Below the folder are ``noisy``, ``clean``, ``bundle/vocoder`` and ``bundle/se``.
    """
    write_spoken_corpus(folder / "clean", per_shard=3)
    tokens = write_spoken_corpus(folder / "noisy", clean=folder / "clean", **corpus)
    write_small_vocoder(folder / "bundle" / "vocoder")
    hardly_trained(folder, folder / "bundle" / "se")
    return tokens


def enhance_config(folder, output, **settings):
    """Give the settings of enhance on such pairs."""
    given = {} if "export" in settings else {"tokens": str(folder / "noisy" / "tokens")}
    usual = {"bundle": str(folder / "bundle"), "output": str(output), "runner": "here"}
    return EnhanceConfig.of(**{**usual, **given, **settings})
