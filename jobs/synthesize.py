r"""Speak tokens: a tokens dataset, an export, or one recording by way of its tokens, from whatever layers are given.

    python jobs/synthesize.py --tokens out/tokens --manifest out/manifest --vocoder out/vocoder --output out/speech
    python jobs/synthesize.py --file in.wav --tokenizer out/tokenizer --vocoder out/vocoder --output out.wav --layers 6
    ray job submit --working-dir . -- python jobs/synthesize.py --tokens s3://b/tokens --vocoder s3://b/vocoder \
        --output s3://b/speech

The speech is FLAC in Parquet shards; OUTPUT/_manifest is a manifest of it that every other job reads.
"""

from pipeline import cli
from pipeline.synthesis.stage import synthesize

if __name__ == "__main__":
    cli.run(synthesize, description=__doc__)
