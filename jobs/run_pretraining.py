r"""Pretrain an encoder from nothing but audio, in iterations: tokens of MFCC first, then of its own features.

    python jobs/run_pretraining.py --preset pretrain_small --manifest out/manifest --output out/pretraining
    ray job submit --working-dir . -- python jobs/run_pretraining.py --preset pretrain_base \
        --manifest s3://b/manifest --output s3://b/pretraining

The last iteration's folder, as out/pretraining/iteration_2/encoder, is the encoder: give it to the other jobs.
"""

from pipeline import cli
from pipeline.pretraining.iterations.stage import run_pretraining

if __name__ == "__main__":
    cli.run(run_pretraining, description=__doc__)
