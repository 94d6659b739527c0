"""Which guidance and temperature say the most words, on the sentences that text to speech was validated on.

    python -m bench.speaking_choice --data DATA --speaking speaking [--guidance 1.5 2 3] [--temperature 0.6 0.8 1]

SPEAKING is the folder of ``bench.speaking_study`` with ``--text-dropout``, after its training of ``layers 1 to 6``. The
test of that study is not touched: what is found here is then given to it. Prints the WER of each pair.
"""

import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq

from bench.enhancement_study import HERE
from bench.measuring import table
from bench.study_corpora import LAYERS
from bench.vocoder_study import job


def validation(data: Path, folder: Path) -> None:
    """Make texts and a manifest of the sentences of validation."""
    job("evaluate", model=folder / "tts_layers_1_to_6", output=folder / "valid", sides="validation", examples=0)
    names = set(pq.read_table(folder / "valid" / "utterances.parquet")["utterance_id"].to_pylist())
    lines = [json.loads(line) for line in (folder / "slt.jsonl").read_text().splitlines()]
    held = [line for line in lines if line["utterance_id"] in names]
    (folder / "valid.jsonl").write_text("".join(json.dumps(line) + "\n" for line in held))
    texts = [{"utterance_id": line["utterance_id"], "text": line["text"]} for line in held]
    (folder / "valid_texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    job("build_manifest", corpus=folder / "valid.jsonl", layout="listing", roots=data,
            output=folder / "valid_manifest", **HERE)  # fmt: skip


def main() -> None:
    """Speak, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--speaking", type=Path, required=True)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.5, 2.0, 3.0])
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    given = parser.parse_args()
    folder, heard = given.speaking, {}
    validation(given.data, folder)
    for guidance in given.guidance:
        for temperature in given.temperature:
            spoken = folder / f"valid_{guidance:g}_{temperature:g}"
            job("speak", text_file=folder / "valid_texts.jsonl", task=folder / "tts_layers_1_to_6", layers=LAYERS,
                    vocoder=folder / "vocoder", guidance=guidance, temperature=temperature, output=spoken,
                    max_reject_fraction=1, **HERE)  # fmt: skip
            heard[f"guidance {guidance:g}, temperature {temperature:g}"] = spoken / "_manifest"
    job("evaluate", recorded=tuple(heard.values()), names=tuple(heard), reference=folder / "valid_manifest",
            judges="recogniser", output=folder / "valid_judged", num_utterances=1000)  # fmt: skip
    found = json.loads((folder / "valid_judged" / "metrics.json").read_text())
    rows = []
    for told in found["conditions"]:
        wer = told["figures"]["wer"]["interval"]
        rows.append([told["condition"], f"{wer['value']:.3f} ({wer['low']:.3f} to {wer['high']:.3f})"])
    print(table((f"{found['utterances']} sentences of validation", "WER"), rows))


if __name__ == "__main__":
    main()
