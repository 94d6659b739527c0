r"""Write a card beside each codebook: how evenly its codes are used, how well they fit, what they say about labels.

    python jobs/describe_codebooks.py --codebooks out/codebooks --features out/features
    ray job submit --working-dir . -- python jobs/describe_codebooks.py --codebooks s3://b/codebooks \
        --features s3://b/features --manifest s3://b/manifest --splits test --labels speaker text

CODEBOOKS/_cards gets JSON, Markdown and plots (extra [plots]); the codebooks stay as they are.
"""

from pipeline import cli
from pipeline.kmeans.cards.stage import describe_codebooks

if __name__ == "__main__":
    cli.run(describe_codebooks, description=__doc__)
