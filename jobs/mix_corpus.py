r"""Mix a clean corpus with noises, and with rooms: pairs of noisy and clean utterances for speech enhancement.

    python jobs/build_manifest.py --corpus noises --layout folder --output out/noises
    python jobs/mix_corpus.py --manifest out/manifest --noises out/noises --snr-db 0 15 --output out/noisy
    ray job submit --working-dir . -- python jobs/mix_corpus.py --manifest s3://b/manifest --noises s3://b/noises \
        --rooms s3://b/rooms --snrs 0 5 10 15 --passes 2 --output s3://b/noisy

The noisy speech is FLAC in Parquet shards; OUTPUT/_manifest is a manifest of it that every other job reads, and its
clean_uri names the clean utterance of each.
"""

from pipeline import cli
from pipeline.audio.mixtures.stage import mix_corpus

if __name__ == "__main__":
    cli.run(mix_corpus, description=__doc__)
