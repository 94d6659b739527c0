r"""Write chosen layers of an SSL encoder for every utterance of a manifest, or for a sample of frames.

    python jobs/extract_features.py --manifest out/manifest --encoder DIR --layers 2 4 --output out/features
    ray job submit --working-dir . -- python jobs/extract_features.py --manifest s3://b/manifest \
        --encoder microsoft/wavlm-large --layers 7 12 --dtype bfloat16 --output s3://b/features

The encoder is cut after the highest layer; --sample-frames keeps just what fit_kmeans needs.
"""

from pipeline import cli
from pipeline.features.stage import extract_features

if __name__ == "__main__":
    cli.run(extract_features, description=__doc__)
