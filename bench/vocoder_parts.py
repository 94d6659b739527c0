"""Children of bench/vocoder.py: each measures one thing in a process of its own, and ends with JSON."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from bench.made_tokens import HOP, RATE
from bench.measuring import count_flops, peak_bytes, restart_peak, seconds_of, sgemm_peak
from bench.vocoder_workload import count, preset_vocoder, rival
from pipeline.synthesis.inputs import tokens_input
from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.voice import Said, Voice, stacked

Settings = Mapping[str, Any]
PEAK_SECONDS = 0.5


def generator(settings: Settings) -> dict[str, Any]:
    """Time a preset's vocoder, its rival and matrix products in turns, one utterance of so many seconds.

    Ours begins at tokens, so its fusion of layers is in its time; parameters are those of its generator, without the
    embeddings, which cost no time.
    """
    threads, rounds, seconds = settings["threads"], settings["rounds"], settings["seconds"]
    torch.set_num_threads(threads)
    vocoder = preset_vocoder(settings["preset"])
    other = rival(count(vocoder.generator))
    frames = round(seconds * RATE / HOP)
    fuser = vocoder.spec.fuser
    size = min(fuser.num_clusters.values())
    tokens = torch.randint(size, (1, frames, len(fuser.columns)))
    mask = torch.ones(1, frames, dtype=torch.bool)
    mel = torch.randn(1, frames, other.config.model_in_dim)
    works: dict[str, Callable[[], object]] = {"ours": lambda: vocoder(tokens, mask), "rival": lambda: other(mel)}
    low = settings["dtype"] != "float32"
    taken: dict[str, list[float]] = {name: [] for name in works}
    peaks = []
    flops = {name: count_flops(work) for name, work in works.items()}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
        for work in works.values():
            work()
        for _ in range(rounds):
            for name, work in works.items():
                taken[name].append(seconds_of(work))
            peaks.append(sgemm_peak(threads, seconds=PEAK_SECONDS))
    share = {
        name: statistics.median(flops[name] / took / peak for took, peak in zip(taken[name], peaks, strict=True))
        for name in works
    }
    ratios = [theirs / ours for ours, theirs in zip(taken["ours"], taken["rival"], strict=True)]
    return {
        "parameters": {"ours": count(vocoder.generator), "rival": count(other), "whole": count(vocoder)},
        "rival": {"channels": other.config.upsample_initial_channel, "bins": other.config.model_in_dim},
        "times_real_time": {name: seconds / statistics.median(each) for name, each in taken.items()},
        "best_times_real_time": {name: seconds / min(each) for name, each in taken.items()},
        "ratio": statistics.median(ratios),
        "ratio_of_best": min(taken["rival"]) / min(taken["ours"]),
        "gflop_per_audio_second": {name: flops[name] / seconds / 1e9 for name in works},
        "peak_gflops": statistics.median(peaks) / 1e9,
        "best_peak_gflops": max(peaks) / 1e9,
        "share_of_peak": share,
        "seconds": taken,
    }


def bare(settings: Settings) -> dict[str, Any]:
    """Speak the shards of a tokens dataset, tokens in memory beforehand; nothing is rounded, encoded or written."""
    torch.set_num_threads(settings["threads"])
    voice = Voice(settings["vocoder"], "cpu", SpeakingSettings())
    given = tokens_input(settings["tokens"])
    columns = voice.spec.columns
    shards = [
        [Said(tokens=stacked(tokens, voice.spec, columns)) for _, tokens in given.rows(unit)] for unit in given.units
    ]
    samples = 0
    began = time.perf_counter()
    for said in shards:
        samples += sum(len(waveform) for _, waveform in voice.speak(said, columns))
    return {"seconds": time.perf_counter() - began, "audio_seconds": samples / RATE}


def memory(settings: Settings) -> dict[str, Any]:
    """Speak one utterance of so many minutes, after a short one, and say how far resident memory rose.

    The waveform is float32, so it alone is 3.7 MiB per minute at 16 kHz.
    """
    torch.set_num_threads(settings["threads"])
    voice = Voice(settings["vocoder"], "cpu", SpeakingSettings())
    columns = voice.spec.columns
    size = min(voice.spec.fuser.num_clusters.values())
    rng = np.random.default_rng(0)

    def said(seconds: float) -> Said:
        return Said(tokens=rng.integers(size, size=(round(seconds * RATE / HOP), len(columns))))

    list(voice.speak([said(1.0)], columns))
    utterance = said(60 * settings["minutes"])
    before = restart_peak()
    ((_, waveform),) = voice.speak([utterance], columns)
    return {
        "minutes": settings["minutes"],
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "waveform_bytes": waveform.nbytes,
        "token_bytes": utterance.tokens.nbytes,
    }


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {"generator": generator, "bare": bare, "memory": memory}


def main() -> None:
    """Measure what the settings name."""
    settings = json.loads(sys.argv[1])
    print(json.dumps(PARTS[settings["part"]](settings)))


if __name__ == "__main__":
    main()
