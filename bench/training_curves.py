"""Loss and masked accuracy of training runs, drawn from what they logged.

    python -m bench.training_curves --runs out/iteration_1/encoder out/iteration_2/encoder --plot curves.png

Prints the first, middle and last figures of each run, and as its last line all of them as JSON.
"""

import argparse
import json
from pathlib import Path

from bench.measuring import table

_SHOWN = ("masked_loss", "masked_accuracy")


def read_run(folder: Path) -> list[dict[str, float]]:
    """Read what a run logged, a dictionary a line with ``step``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(lines: list[dict[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Give the steps and the values of one figure."""
    found = [(int(line["step"]), line[name]) for line in lines if name in line]
    return [step for step, _ in found], [value for _, value in found]


def draw(runs: dict[str, list[dict[str, float]]], target: Path) -> None:
    """Draw loss and accuracy side by side, training as a line and validation as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), _SHOWN, strict=True):
        for place, (label, lines) in enumerate(runs.items()):
            axes.plot(*curve(lines, name), color=f"C{place}", linewidth=1, label=label)
            axes.plot(*curve(lines, f"validation_{name}"), "o", color=f"C{place}", markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(name.replace("_", " "))
        axes.legend(title="line: training, points: validation")
    figure.savefig(target, dpi=90)


def main() -> None:
    """Read, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="encoder folders, in order")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    given = parser.parse_args()
    runs = {f"iteration {number}": read_run(folder) for number, folder in enumerate(given.runs, start=1)}
    rows = []
    for label, lines in runs.items():
        for kind in ("", "validation_"):
            steps, losses = curve(lines, f"{kind}masked_loss")
            _, right = curve(lines, f"{kind}masked_accuracy")
            for place in sorted({0, len(steps) // 2, len(steps) - 1}) if steps else []:
                figures = (f"{steps[place]:,}", f"{losses[place]:.3f}", f"{right[place]:.3f}")
                rows.append((label, kind.rstrip("_") or "training", *figures))
    print(table(("run", "data", "step", "masked loss", "masked accuracy"), rows))
    if given.plot is not None:
        draw(runs, given.plot)
    print(json.dumps(runs, sort_keys=True))


if __name__ == "__main__":
    main()
