"""Time tokenize_corpus against the loop that people write: one utterance at a time, full depth, scikit-learn's predict.

    python bench/tokenize_corpus.py --run out [--repeats 3]

`--run` is a finished run_pipeline of that corpus: its manifest, codebooks and tokenizer are used by both sides, and
features and codebooks are made beforehand for both. Each side runs as a whole process, start included, in turn. The
loop has all cores in torch's own threads; tokenize_corpus has its default shape. Prints medians, their ratio and the
share of tokens that are equal.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]

LOOP = """
import json, sys
from pathlib import Path
import numpy as np, soundfile, torch
from safetensors.numpy import load_file
from sklearn.cluster import KMeans
from transformers import AutoFeatureExtractor, AutoModel
run, output = Path(sys.argv[1]), Path(sys.argv[2])
model = AutoModel.from_pretrained(run / "tokenizer" / "encoder").eval()
extractor = AutoFeatureExtractor.from_pretrained(run / "tokenizer" / "encoder")
kmeans = {}
for path in sorted((run / "tokenizer" / "codebooks").glob("*.safetensors")):
    centroids = load_file(path)["centroids"]
    layer = int(path.name.split("_")[1])
    kmeans[layer] = KMeans(len(centroids), n_init=1, max_iter=1).fit(centroids)
    kmeans[layer].cluster_centers_ = centroids
for line in sys.stdin:
    row = json.loads(line)
    waveform, rate = soundfile.read(row["uri"], dtype="float32")
    values = extractor(waveform, sampling_rate=rate, return_tensors="pt").input_values
    with torch.inference_mode():
        states = model(values, output_hidden_states=True).hidden_states
    tokens = [kmeans[layer].predict(states[layer][0].numpy()) for layer in sorted(kmeans)]
    np.save(output / f"{row['utterance_id']}.npy", np.stack(tokens, axis=1))
"""


def timed(command: list[str], stdin: str = "") -> float:
    """Run a process to its end and give its wall time in seconds."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    subprocess.run(command, input=stdin, text=True, check=True, env=environment, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Time both sides in turn and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run_pipeline")
    parser.add_argument("--repeats", type=int, default=3, help="times each side runs")
    given = parser.parse_args()
    run = given.run.resolve()
    manifest = pq.read_table(run / "manifest").to_pylist()
    rows = "".join(json.dumps(row) + "\n" for row in manifest)
    hours = sum(row["num_samples"] / row["sample_rate"] for row in manifest) / 3600
    ours, loop = [], []
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(ROOT / "jobs" / "tokenize_corpus.py"), "--manifest", f"{run}/manifest"]
            command += ["--codebooks", f"{run}/codebooks", "--encoder", f"{run}/tokenizer/encoder"]
            ours.append(timed([*command, "--output", f"{folder}/tokens"]))
            found = {row["utterance_id"]: row for row in pq.read_table(f"{folder}/tokens").to_pylist()}
            (Path(folder) / "loop").mkdir()
            loop.append(timed([sys.executable, "-c", LOOP, str(run), f"{folder}/loop"], rows))
            equal = total = 0
            for name, row in found.items():
                columns = [np.array(row[key]) for key in sorted(row) if key.startswith("layer_")]
                theirs = np.load(f"{folder}/loop/{name}.npy")
                equal += int((np.stack(columns, axis=1) == theirs).sum())
                total += theirs.size
    print(
        json.dumps(
            {
                "audio_hours": round(hours, 3),
                "tokenize_corpus_seconds": [round(value, 1) for value in ours],
                "loop_seconds": [round(value, 1) for value in loop],
                "ratio_of_medians": round(statistics.median(loop) / statistics.median(ours), 2),
                "times_real_time": round(hours * 3600 / statistics.median(ours), 1),
                "tokens_equal": round(equal / total, 5),
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
