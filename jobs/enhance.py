r"""Enhance noisy speech by its tokens: clean tokens are said for the noisy ones, and a vocoder speaks them.

    python jobs/enhance.py --tokens out/noisy_tokens --manifest out/noisy/_manifest --bundle out/tokenizer \
        --output out/enhanced
    python jobs/enhance.py --file noisy.wav --bundle out/tokenizer --output clean.wav
    ray job submit --working-dir . -- python jobs/enhance.py --tokens s3://b/noisy_tokens --task s3://b/se \
        --vocoder s3://b/vocoder --output s3://b/enhanced

The speech is FLAC in Parquet shards; OUTPUT/_manifest is a manifest of it that every other job reads.
"""

from pipeline import cli
from pipeline.enhancement.stage import enhance

if __name__ == "__main__":
    cli.run(enhance, description=__doc__)
