"""Time text to speech: steps with and without kept keys, and tts and vocoder together beside the vocoder alone.

    python -m bench.speaking [--seconds 10] [--texts 1 16] [--threads 1] [--rounds 3] [--json FILE]

The tts of the preset tts_small and the vocoder of vocoder_small, three layers of K = 500, weights random, in this
process. The stop decision is held off, so that each text is written to its limit of --seconds; texts have as many
characters as such speech. "tokens / s" counts all layers of all texts. Without kept keys a step computes all before it
again, which one text alone is timed with. The last columns time writing and speaking in turns; loading is left out,
and nothing is encoded as FLAC.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.made_tokens import HOP, RATE
from bench.measuring import seconds_of, table, write_json
from bench.vocoder_workload import PRESETS, preset_group, preset_spec, preset_vocoder

PRESET, VOCODER = "tts_small", "vocoder_small"
FRAMES_PER_SYMBOL = 3.5
"""As of English read aloud: some 14 characters a second."""
HEADER = ("texts", "tokens / s", "without kept keys", "ratio", "tts, x real time", "vocoder alone", "both together")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = [measure(count, given.seconds, given.threads, given.rounds) for count in given.texts]
    print(table(HEADER, [_line(each) for each in found]))
    write_json(given.json, {"found": found})


def measure(texts: int, seconds: float, threads: int, rounds: int) -> dict[str, Any]:
    """Time so many texts at once."""
    import torch

    from pipeline.tasks.tts.decoding import ReadText, WrittenTokens

    torch.set_num_threads(threads)
    frames = round(seconds * RATE / HOP)
    symbols = (*([1, 2, 3, 4, 5] * frames)[: round(frames / FRAMES_PER_SYMBOL)], 0)
    wanted = [ReadText(key=str(n), symbols=symbols, speaker=None, most_frames=frames) for n in range(texts)]
    kept, again = (_writer(texts, cached=cached) for cached in (True, False))
    last: list[WrittenTokens] = []

    def write() -> None:
        last[:] = [tokens for _, tokens in kept.write(wanted)]

    write()
    speak = _speaking(last)
    speak()
    works = {"kept": write, "speak": speak}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds_of(work))
    without = seconds_of(lambda: list(again.write(wanted))) if texts == 1 else None
    writing, speaking = (statistics.median(each) for each in taken.values())
    tokens, audio = texts * frames * PRESETS[VOCODER][0], texts * frames * HOP / RATE
    return {
        "texts": texts,
        "frames": frames,
        "tokens_per_second": {"kept": tokens / writing, "again": without and tokens / without},
        "times_real_time": {
            "tts": audio / writing,
            "vocoder": audio / speaking,
            "both": audio / (writing + speaking),
        },
        "seconds": {**taken, "again": without},
    }


def _writer(texts: int, *, cached: bool) -> Any:
    """Make the tts of the preset, which never stops by itself."""
    import torch

    from pipeline.fusion.fuser import build_fuser
    from pipeline.fusion.settings import FusionSettings
    from pipeline.tasks.asr.text import Alphabet
    from pipeline.tasks.recipe import TaskModel
    from pipeline.tasks.tts.decoding import Writer
    from pipeline.tasks.tts.settings import GenerationSettings, TtsSettings
    from pipeline.tasks.tts.task import TtsTask

    spec = replace(preset_spec(VOCODER, *PRESETS[VOCODER]).fuser, settings=preset_group(PRESET, FusionSettings))
    letters = " ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    alphabet = Alphabet(
        units="characters",
        symbols=("", *letters),
        characters=frozenset(letters),
        text_normalization="upper",
        drops_unknown=False,
    )
    task = TtsTask(
        settings=preset_group(PRESET, TtsSettings),
        alphabet=alphabet,
        columns=spec.columns,
        num_clusters=tuple(spec.num_clusters.values()),
        frames_per_symbol=FRAMES_PER_SYMBOL,
    )
    torch.manual_seed(0)
    fuser = build_fuser(spec)
    model = TaskModel(fuser, task.head(fuser.dim)).eval()
    torch.nn.init.constant_(model.head.stop.bias, -1e3)  # type: ignore[union-attr,arg-type]
    return Writer(model, task, GenerationSettings(texts_per_batch=texts), "cpu", cached=cached)


def _speaking(written: Sequence[Any]) -> Any:
    """Give what speaks tokens by the vocoder of the preset, texts of one length at once."""
    import torch

    vocoder = preset_vocoder(VOCODER)
    tokens = torch.stack([torch.from_numpy(each.tokens) for each in written])
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)

    def speak() -> None:
        with torch.inference_mode():
            vocoder(tokens, mask)

    return speak


def _line(each: dict[str, Any]) -> list[str]:
    tokens, speed = each["tokens_per_second"], each["times_real_time"]
    return [
        str(each["texts"]),
        f"{tokens['kept']:,.0f}",
        *([f"{tokens['again']:,.0f}", f"{tokens['kept'] / tokens['again']:.1f}"] if tokens["again"] else ["", ""]),
        *(f"{speed[name]:.1f}" for name in ("tts", "vocoder", "both")),
    ]


if __name__ == "__main__":
    main()
