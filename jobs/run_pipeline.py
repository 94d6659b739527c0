r"""Turn a corpus of speech into tokens of several layers: manifest, features, codebooks, tokens.

    python jobs/run_pipeline.py --corpus DIR --layout folder --output out --num-clusters 500
    ray job submit --working-dir . -- python jobs/run_pipeline.py --preset paper_wavlm_large_k1000 \
        --corpus s3://b/corpus --layout librispeech --output s3://b/run

Run again after a stop, it does what is missing. OUTPUT/{manifest,features,codebooks,tokens} are datasets,
OUTPUT/tokenizer is what Tokenizer.from_pretrained loads.
"""

from pipeline import cli
from pipeline.run import run_pipeline

if __name__ == "__main__":
    cli.run(run_pipeline, description=__doc__)
