"""Speak a corpus with espeak-ng: transcripts, speakers and speaking styles, for trying Strata out.

    python jobs/synthesize_corpus.py --output demo/corpus --num-utterances 240
    ray job submit --working-dir . -- python jobs/synthesize_corpus.py --output s3://b/corpus --num-utterances 100000

Give OUTPUT/listing.jsonl to build_manifest or run_pipeline with --layout listing. Needs the extra [demo].
"""

from pipeline import cli
from pipeline.audio.synthesis.stage import synthesize_corpus

if __name__ == "__main__":
    cli.run(synthesize_corpus, description=__doc__)
