r"""Join short utterances of a manifest into longer ones, with silences between, without copying audio.

    python jobs/concatenate_corpus.py --manifest out/digits --output out/numbers --per-utterance 4 7 --by speaker
    ray job submit --working-dir . -- python jobs/concatenate_corpus.py --manifest s3://b/digits \
        --output s3://b/numbers --silence-seconds 0.1 0.4 --passes 2

The output is a manifest whose rows list pieces; extract_features, tokenize_corpus and others read it as any other.
Needs no Ray.
"""

from pipeline import cli
from pipeline.audio.concatenation.stage import concatenate_corpus

if __name__ == "__main__":
    cli.run(concatenate_corpus, description=__doc__)
