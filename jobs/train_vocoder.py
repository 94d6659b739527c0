r"""Train a vocoder: one network that speaks the tokens of any set of layers.

    python jobs/train_vocoder.py --preset vocoder_small --tokens out/tokens --manifest out/manifest --output out/vocoder
    ray job submit --working-dir . -- python jobs/train_vocoder.py --preset paper_vocoder --tokens s3://b/tokens \
        --manifest s3://b/manifest --use-gpu --num-workers 4 --batches-per-step 4 --output s3://b/vocoder

Layers are dropped at random in training; --layers 6 trains a single-layer vocoder. The output is a vocoder's folder,
bound by hashes to the encoder and the codebooks of its tokens.
"""

from pipeline import cli
from pipeline.vocoder.training.stage import train_vocoder

if __name__ == "__main__":
    cli.run(train_vocoder, description=__doc__)
