r"""Pretrain a HuBERT by masked prediction of tokens that this system made.

    python jobs/pretrain_encoder.py --manifest out/manifest --tokens out/tokens --shape small --num-steps 5000 \
        --output out/encoder
    ray job submit --working-dir . -- python jobs/pretrain_encoder.py --preset pretrain_base \
        --manifest s3://b/manifest --tokens s3://b/tokens --output s3://b/encoder

The output is an encoder folder in Hugging Face form: give it to --encoder of the other jobs.
"""

from pipeline import cli
from pipeline.pretraining.stage import pretrain_encoder

if __name__ == "__main__":
    cli.run(pretrain_encoder, description=__doc__)
