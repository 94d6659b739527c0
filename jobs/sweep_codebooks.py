r"""Fit codebooks of several K on several shares of the frames, and draw how good they are over both.

    python jobs/sweep_codebooks.py --features out/features --num-clusters 100 200 500 1000 --sweep 0.1 0.3 1 \
        --described-on dev/features --output out/sweep
    ray job submit --working-dir . -- python jobs/sweep_codebooks.py --features s3://b/features \
        --num-clusters 500 1000 2000 --sweep 0.01 0.1 1 --output s3://b/sweep

OUTPUT/sweep.md has a table and the curves of each layer, sweep.json the numbers, fraction_*/ the codebooks with cards.
"""

from pipeline import cli
from pipeline.kmeans.sweep.stage import sweep_codebooks

if __name__ == "__main__":
    cli.run(sweep_codebooks, description=__doc__)
