r"""Train and test a task fold by fold, as leaving one speaker out, and pool what all folds say.

    python jobs/cross_validate.py --preset er_small --tokens out/tokens --manifest out/manifest --output out/er_folds
    ray job submit --working-dir . -- python jobs/cross_validate.py --preset paper_er --tokens s3://b/tokens \
        --manifest s3://b/manifest --num-folds 5 --output s3://b/er_folds

Its settings are those of train_task, but for the division, which is that of the folds. A run that was stopped goes on
where it was.
"""

from pipeline import cli
from pipeline.cross_validation.stage import cross_validate

if __name__ == "__main__":
    cli.run(cross_validate, description=__doc__)
