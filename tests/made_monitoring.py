"""A small run on a local Ray that a Prometheus can scrape: manifest, K-means, tokens and a training.

python -m made_monitoring FOLDER ENCODER   runs it; says `scraped at DISCOVERY` when Ray is there, `done REPORTS` at the
end, and ends Ray when its standard input is closed
"""

import json
import logging
import os
import sys
from pathlib import Path

from made_corpus import write_corpus
from made_training import NoiseRecipe, settings_of

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.training.launch import Shape, train

REPORT_MILLISECONDS = 1000
"""How often Ray's processes hand their metrics on, in place of every 10 s: each stage here takes a few seconds."""


def start_ray():
    """Start a local Ray with a dashboard, which writes the file that Prometheus finds Ray's nodes by."""
    import ray

    settings = {
        "address": "local",
        "num_cpus": 2,
        "include_dashboard": True,
        "dashboard_port": 0,
        "log_to_driver": False,
        "logging_level": "WARNING",
        "_system_config": {"metrics_report_interval_ms": REPORT_MILLISECONDS},
    }
    try:
        found = ray.init(**settings)
    except Exception as error:
        # Ray gives a node 30 s to start, which a machine with much else to do may miss.
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        found = ray.init(**settings)
    return Path(found.address_info["session_dir"]) / "prom_metrics_service_discovery.json"


def work(folder, encoder):
    """Run the stages on the Ray that was started, over a corpus with a recording that is none; then train.

    Returns:
        What reports and history say, to be compared with what was scraped.
    """
    (write_corpus(folder / "audio", num_files=12) / "broken.wav").write_bytes(b"RIFF and then nothing")
    made = {name: str(folder / name) for name in ("manifest", "features", "codebooks", "tokens")}
    encoded = {"manifest": made["manifest"], "encoder": encoder}
    build_manifest(
        BuildManifestConfig.of(
            corpus=str(folder / "audio"), layout="folder", output=made["manifest"], shard_minutes=0.05, runner="ray"
        )
    )
    # In this process, of which nothing may be scraped.
    extract_features(ExtractFeaturesConfig.of(output=made["features"], layers=(1, 3), runner="here", **encoded))
    fit_kmeans(
        FitKmeansConfig.of(features=(made["features"],), output=made["codebooks"], num_clusters=(8,), runner="ray")
    )
    books = {"codebooks": made["codebooks"], "num_clusters": 8, "agreement_share": 0.9}
    workers = {"num_workers": 1, "runner": "ray"}
    tokens = tokenize_corpus(TokenizeCorpusConfig.of(output=made["tokens"], **books, **encoded, **workers))
    shape = Shape(num_workers=1, use_gpu=False, threads=1)
    trained = train(NoiseRecipe(), settings_of(num_steps=40), str(folder / "task"), shape=shape, stage="task")
    book = read_codebooks(made["codebooks"], (1,), 8)[0]
    return {
        "tokens": tokens.to_json(),
        "inertia": book.inertia.tolist(),
        "task": trained.history,
    }


def main():
    """Run, and wait."""
    folder, encoder = Path(sys.argv[1]), sys.argv[2]
    os.environ["RAY_ADDRESS"] = "local"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    print(f"scraped at {start_ray()}", flush=True)
    print(f"done {json.dumps(work(folder, encoder))}", flush=True)
    sys.stdin.read()

    import ray

    ray.shutdown()


if __name__ == "__main__":
    main()
