"""Time speech enhancement on tokens: the task and the vocoder together beside the vocoder alone.

    python -m bench.enhancing [--minutes 0.17 2] [--threads 1] [--rounds 5] [--json FILE]

The task of the preset se_small and the vocoder of vocoder_small, three layers of K = 500, weights random, in this
process, one utterance of each length. Enhancing and speaking take turns; times are medians. Loading is left out, and
so are the encoder and FLAC.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.made_tokens import HOP, RATE
from bench.measuring import seconds_of, table, write_json
from bench.vocoder_workload import PRESETS, preset_group, preset_spec, preset_vocoder

PRESET, VOCODER = "se_small", "vocoder_small"
HEADER = ("minutes", "enhancement, x real time", "vocoder alone", "both together", "of the vocoder alone")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1 / 6, 2.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = [measure(minutes, given.threads, given.rounds) for minutes in given.minutes]
    print(table(HEADER, [_line(each) for each in found]))
    write_json(given.json, {"found": found})


def measure(minutes: float, threads: int, rounds: int) -> dict[str, Any]:
    """Time one utterance."""
    import torch

    from pipeline.tasks.se.enhancing import enhance_tokens
    from pipeline.vocoder.pieces import spoken_pieces

    torch.set_num_threads(threads)
    layers, num_clusters = PRESETS[VOCODER]
    frames = round(60 * minutes * RATE / HOP)
    tokens = torch.randint(num_clusters, (frames, layers), generator=torch.Generator().manual_seed(0))
    model, vocoder = _model(), preset_vocoder(VOCODER)
    works = {
        "enhance": lambda: enhance_tokens(model, tokens),
        "speak": lambda: list(spoken_pieces(vocoder, tokens)),
    }
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds_of(work))
    enhancing, speaking = (statistics.median(each) for each in taken.values())
    audio = frames * HOP / RATE
    speed = {"enhancement": audio / enhancing, "vocoder": audio / speaking, "both": audio / (enhancing + speaking)}
    return {"minutes": minutes, "times_real_time": speed, "seconds": taken}


def _model() -> Any:
    """Make the task of the preset for tokens of the vocoder's."""
    import torch

    from pipeline.fusion.fuser import build_fuser
    from pipeline.fusion.settings import FusionSettings
    from pipeline.tasks.blocks.settings import ConformerSettings
    from pipeline.tasks.recipe import TaskModel
    from pipeline.tasks.se.model import SeModel

    spec = replace(preset_spec(VOCODER, *PRESETS[VOCODER]).fuser, settings=preset_group(PRESET, FusionSettings))
    torch.manual_seed(0)
    fuser = build_fuser(spec)
    head = SeModel(fuser.dim, list(spec.num_clusters.values()), preset_group(PRESET, ConformerSettings))
    return TaskModel(fuser, head).eval()


def _line(each: dict[str, Any]) -> list[str]:
    speed = each["times_real_time"]
    return [
        f"{each['minutes']:.2f}",
        *(f"{speed[name]:.1f}" for name in ("enhancement", "vocoder", "both")),
        f"{speed['both'] / speed['vocoder']:.2f}",
    ]


if __name__ == "__main__":
    main()
