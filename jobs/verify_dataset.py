r"""Check a dataset: bytes, rows, frames, lineage and ids against its commits.

    python jobs/verify_dataset.py --dataset out/tokens
    ray job submit --working-dir . -- python jobs/verify_dataset.py --dataset s3://b/tokens

--compare checks that another dataset holds the same bytes. --status only says what is done, pending and rejected.
Starts no Ray.
"""

from pipeline import cli
from pipeline.store.verification import verify_dataset

if __name__ == "__main__":
    cli.run(verify_dataset, description=__doc__)
