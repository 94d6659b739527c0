r"""Evaluate a trained task, and which layers it listens to; or judge a vocoder, or recordings: metrics, a page.

    python jobs/evaluate.py --model out/er --output out/er_test
    ray job submit --working-dir . -- python jobs/evaluate.py --model s3://b/er --output s3://b/er_test
    python jobs/evaluate.py --model out/er --manifest m --tokens t --sides all --output out/other
    python jobs/evaluate.py --compare out/er_test out/er_mean_test --output out/compared
    python jobs/evaluate.py --vocoder out/vocoder --tokens out/tokens --manifest out/manifest --output out/judged
    python jobs/evaluate.py --recorded out/noisy/_manifest out/speech/_manifest --reference out/clean --output out/heard

It runs in one process, on the machine of the command. Open index.html in the output with a browser. Tokens and
manifest are those of the training, unless others of the same codebooks are given.
"""

from pipeline import cli
from pipeline.evaluation.stage import evaluate

if __name__ == "__main__":
    cli.run(evaluate, description=__doc__)
