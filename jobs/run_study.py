r"""Run a study: which layers, how many clusters, which initialisation, K-means data and encoder, for every task.

    python jobs/run_study.py --preset small --data corpora --output study
    ray job submit --working-dir . -- python jobs/run_study.py --preset paper --data s3://b/corpora --output s3://b/study

A study is a TOML file of corpora, encoders, tasks, a centre and factors (--study); small and paper ship. Trials run
side by side; a run that was stopped goes on where it was. OUTPUT/index.html says what was found, how sure it is, and
what it cost.
"""

from pipeline import cli
from pipeline.study.stage import run_study

if __name__ == "__main__":
    cli.run(run_study, description=__doc__)
