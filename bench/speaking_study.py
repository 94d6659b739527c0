"""Text to speech on tokens of one, two and six layers of one real voice, judged beside vocoded recordings.

    python -m bench.speaking_study --data DATA --output speaking [--steps 4000] [--vocoder-steps 4000] [--runs NAME...]
        [--units phones] [--dropout 0.2] [--hidden-frames 0.4] [--text-dropout 0.1 --guidance 1 2]
        [--temperature 0.6]

DATA holds ``cmu_arctic/cmu_us_slt_arctic``, 893 sentences; every twentieth is the test, which nothing is trained on.
Tokens are those of encoder-small with codebooks of the voice, K = 500, layers 1 to 6; one vocoder speaks every set of
layers. The layers of a step are fused by attention, and for six layers side by side too (``concat``). Judges hear the
test sentences as they are spoken from text, from the tokens of their recordings, and the recordings. Prints a table and
writes ``speaking.md``; goes on where it was.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bench.enhancement_study import HERE, slug
from bench.measuring import table
from bench.study_corpora import ARCTIC_LINE, LAYERS
from bench.vocoder_study import job
from pipeline.tasks.tts.settings import GenerationSettings, check_guidance

SETS = {"layer 6": (6,), "layers 2 6": (2, 6), "layers 1 to 6": LAYERS}
"""What is written and spoken."""
CONCAT = "layers 1 to 6, concat"
EVERY = 20
MEASURES = ("wer", "dwer", "dnsmos_ovrl", "speaker_similarity")


def listing(data: Path, folder: Path) -> Path:
    """List the sentences of the voice with their sides, and write the texts of the test."""
    voice = data / "cmu_arctic" / "cmu_us_slt_arctic"
    lines = []
    for place, (name, said) in enumerate(ARCTIC_LINE.findall((voice / "etc" / "txt.done.data").read_text())):
        path = str(voice / "wav" / f"{name}.flac")
        split = "train" if place % EVERY else "test"
        lines.append({"path": path, "utterance_id": name, "speaker": "slt", "text": said.lower(), "split": split})
    folder.mkdir(parents=True, exist_ok=True)
    for name, held in (("slt", lines), ("test", [line for line in lines if line["split"] == "test"])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in held))
    texts = [{"utterance_id": line["utterance_id"], "text": line["text"]} for line in lines if line["split"] == "test"]
    (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return folder / "slt.jsonl"


def prepare(data: Path, folder: Path) -> None:
    """Make manifest, codebooks and tokens, and those of the test alone."""
    corpus = listing(data, folder)
    job("run_pipeline", corpus=corpus, layout="listing", roots=data, output=folder / "slt", encoder="encoder-small",
            layers=LAYERS, num_clusters=500, **HERE)  # fmt: skip
    job("build_manifest", corpus=folder / "test.jsonl", layout="listing", roots=data, output=folder / "test", **HERE)
    job("tokenize_corpus", manifest=folder / "test", encoder="encoder-small", layers=LAYERS, num_clusters=500,
            codebooks=folder / "slt" / "codebooks", output=folder / "test_tokens", **HERE)  # fmt: skip


def runs() -> dict[str, tuple[tuple[int, ...], str]]:
    """Give what is trained: layers, and how those of a step are fused."""
    return {**{name: (layers, "attention") for name, layers in SETS.items()}, CONCAT: (LAYERS, "concat")}


def judge(folder: Path, names: Sequence[str], guidances: Sequence[float], temperature: float) -> None:
    """Speak the test from text and from the tokens of its recordings, and judge all of it."""
    heard = {}
    for name in names:
        layers, _ = runs()[name]
        for guidance in guidances:
            spoken = folder / f"spoken_{slug(name)}_{guidance:g}_t{temperature:g}"
            job("speak", text_file=folder / "texts.jsonl", task=folder / f"tts_{slug(name)}", layers=layers,
                    vocoder=folder / "vocoder", guidance=guidance, temperature=temperature, output=spoken,
                    max_reject_fraction=1, **HERE)  # fmt: skip
            heard[f"{name}, from text, guidance {guidance:g}"] = spoken / "_manifest"
    for name, layers in SETS.items():
        if not any(runs()[each][0] == layers for each in names):
            continue
        vocoded = folder / f"vocoded_{slug(name)}"
        job("synthesize", tokens=folder / "test_tokens", manifest=folder / "test", vocoder=folder / "vocoder",
                layers=layers, output=vocoded, **HERE)  # fmt: skip
        heard[f"{name}, from the recording"] = vocoded / "_manifest"
    job("evaluate", recorded=tuple(heard.values()), names=tuple(heard), reference=folder / "test",
            judges=("dnsmos", "speaker", "recogniser"), output=judged(folder, guidances, temperature))  # fmt: skip


def judged(folder: Path, guidances: Sequence[float], temperature: float) -> Path:
    """Name the folder of what judges say."""
    return folder / f"judged_{'_'.join(f'{guidance:g}' for guidance in guidances)}_t{temperature:g}"


def report(folder: Path, names: Sequence[str], guidances: Sequence[float], temperature: float) -> str:
    """Give what judges say, and the token error rates under teacher forcing."""
    found = json.loads((judged(folder, guidances, temperature) / "metrics.json").read_text())
    rows = []
    for told in found["conditions"]:
        cells = [told["figures"][measure]["interval"] for measure in MEASURES]
        shown = [f"{cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})" if cell else "" for cell in cells]
        rows.append([told["condition"], *shown])
    parts = [table((f"{found['utterances']} sentences", *MEASURES), rows)]
    for name in names:
        metrics = json.loads((folder / f"tts_{slug(name)}_test" / "metrics.json").read_text())
        told = metrics["sides"]["test"]["metrics"]
        parts.append(f"{name}: " + ", ".join(f"{metric} {value['value']:.3f}" for metric, value in told.items()))
    return "\n\n".join(parts)


def main() -> None:
    """Prepare, train, speak, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--vocoder-steps", type=int, default=4000)
    parser.add_argument("--runs", nargs="+", choices=list(runs()), default=list(runs()), help="what is trained")
    parser.add_argument("--units", choices=("characters", "phones"), default="characters", help="what is read")
    parser.add_argument("--dropout", type=float, default=0.1, help="tts_dropout")
    parser.add_argument("--hidden-frames", type=float, default=0.0, help="frames before that are hidden in training")
    parser.add_argument("--text-dropout", type=float, default=0.0, help="texts that are hidden in training")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0], help="each is spoken")
    parser.add_argument("--temperature", type=float, default=1.0, help="at which tokens are drawn")
    given = parser.parse_args()
    for guidance in given.guidance:
        check_guidance(GenerationSettings(guidance=guidance), given.text_dropout)
    folder = given.output
    prepare(given.data, folder)
    inputs = {"tokens": folder / "slt" / "tokens", "manifest": folder / "slt" / "manifest"}
    for name in given.runs:
        layers, fusion = runs()[name]
        output = folder / f"tts_{slug(name)}"
        job("train_task", preset="tts_small", output=output, layers=layers, fusion=fusion, num_steps=given.steps,
                units=given.units, text_normalization="lower", tts_dropout=given.dropout,
                hidden_frames=given.hidden_frames, text_dropout=given.text_dropout, threads_per_worker=1,
                **inputs, **HERE)  # fmt: skip
        job("evaluate", model=output, output=folder / f"tts_{slug(name)}_test", examples=2)
    job("train_vocoder", preset="vocoder_small", splits="train", output=folder / "vocoder", threads_per_worker=1,
            num_steps=given.vocoder_steps, discriminators_from=given.vocoder_steps, **inputs, **HERE)  # fmt: skip
    judge(folder, given.runs, given.guidance, given.temperature)
    told = report(folder, given.runs, given.guidance, given.temperature)
    (folder / "speaking.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
