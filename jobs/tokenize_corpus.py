r"""Tokenise a corpus: one token per layer and frame, from audio in one pass or from features.

    python jobs/tokenize_corpus.py --manifest out/manifest --encoder DIR --codebooks out/codebooks \
        --output out/tokens
    ray job submit --working-dir . -- python jobs/tokenize_corpus.py --manifest s3://b/manifest \
        --encoder microsoft/wavlm-large --dtype bfloat16 --codebooks s3://b/codebooks --output s3://b/tokens

The encoder and its settings must be those the codebooks were fitted with.
"""

from pipeline import cli
from pipeline.tokens.stage import tokenize_corpus

if __name__ == "__main__":
    cli.run(tokenize_corpus, description=__doc__)
