"""HiFi-GAN against the inverse STFT: as many parameters, as many minutes of training on one thread, the same voice.

    python -m bench.vocoder_generators --data DATA --output generators [--minutes 30]

Two short trainings say how many steps of each fit into the minutes; its learning rate then falls to 0 over just these.
Both learn by the log-mel loss alone. Each is judged on the same held-out sentences, from all layers and each. Prints a
table and writes ``generators.md``; goes on where it was.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from bench.measuring import table
from bench.vocoder_study import job, prepare

PRESETS = {"istft": "vocoder_small", "hifigan": "vocoder_small_hifigan"}
MEASURES = ("stft_distance", "log_mel_distance", "mcd", "f0_correlation", "stoi", "dnsmos_ovrl", "wer")
PROBE_STEPS = (5, 25)
"""Steps of two short trainings, whose difference in time says what a step takes."""


def train(folder: Path, name: str, output: Path, steps: int, lr: float) -> float:
    """Train a generator; give the seconds that it took."""
    told = job("train_vocoder", preset=PRESETS[name], tokens=folder / "tokens", manifest=folder / "manifest",
            output=output, runner="here", threads_per_worker=1, num_steps=steps, discriminators_from=steps,
            warmup_steps=min(100, steps // 4), lr=lr, validate_every=0, checkpoint_every=200)  # fmt: skip
    return float(told["wall_seconds"])


def steps_in(minutes: float, folder: Path, name: str, lr: float) -> int:
    """Say how many steps fit into the minutes; a second call gives what the first one found."""
    known = folder / f"{name}_steps.json"
    if not known.exists():
        few, more = (train(folder, name, folder / f"{name}_probe_{steps}", steps, lr) for steps in PROBE_STEPS)
        known.write_text(json.dumps((more - few) / (PROBE_STEPS[1] - PROBE_STEPS[0])))
    return round(60 * minutes / float(known.read_text()))


def rows_of(folder: Path, name: str, minutes: float, lr: float) -> list[list[object]]:
    """Train and judge a generator; give its rows."""
    steps = steps_in(minutes, folder, name, lr)
    made, judged = folder / f"{name}_vocoder", folder / f"{name}_judged"
    train(folder, name, made, steps, lr)
    job("evaluate", vocoder=made, tokens=folder / "tokens", manifest=folder / "manifest", output=judged,
            layer_sets=("all", "each"))  # fmt: skip
    found = json.loads((judged / "metrics.json").read_text())
    return [
        [name, steps, told["condition"], *(_cell(told["figures"][each]["interval"]) for each in MEASURES)]
        for told in found["conditions"]
        if told["condition"] in found["sets"]
    ]


def _cell(interval: Mapping[str, float] | None) -> str:
    """Show a figure; none where no utterance could be judged, as a pitch where nothing is voiced."""
    return "" if interval is None else f"{interval['value']:.3f}"


def main() -> None:
    """Prepare, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--generators", nargs="+", choices=tuple(PRESETS), default=list(PRESETS))
    given = parser.parse_args()
    prepare(given.data, given.output)
    rows = [row for name in given.generators for row in rows_of(given.output, name, given.minutes, given.lr)]
    told = table(("generator", "steps", "from", *MEASURES), rows)
    (given.output / "generators.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
