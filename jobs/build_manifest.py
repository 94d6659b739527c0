r"""List the recordings of a corpus, read their headers in parallel and plan the shards.

    python jobs/build_manifest.py --corpus LibriSpeech --layout librispeech --output out/manifest
    ray job submit --working-dir . -- python jobs/build_manifest.py --corpus s3://b/listing.jsonl \
        --layout listing --output s3://b/manifest

What cannot be used becomes a row of OUTPUT/_rejects with its reason.
"""

from pipeline import cli
from pipeline.audio.stage import build_manifest

if __name__ == "__main__":
    cli.run(build_manifest, description=__doc__)
