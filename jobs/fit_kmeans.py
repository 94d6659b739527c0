r"""Fit K-means codebooks over one or more features datasets: one per layer and K.

    python jobs/fit_kmeans.py --features out/features --num-clusters 100 --output out/codebooks
    ray job submit --working-dir . -- python jobs/fit_kmeans.py --features s3://b/features --layers 7 \
        --num-clusters 1000 --output s3://b/codebooks

Centroids are bit-identical for any number of workers; a checkpoint follows every iteration.
"""

from pipeline import cli
from pipeline.kmeans.fit.stage import fit_kmeans

if __name__ == "__main__":
    cli.run(fit_kmeans, description=__doc__)
