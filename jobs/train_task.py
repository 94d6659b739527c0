r"""Train a task on tokens: speech recognition, speaker identification, emotion recognition or enhancement.

    python jobs/train_task.py --preset asr_small --tokens out/tokens --manifest out/manifest --output out/asr
    ray job submit --working-dir . -- python jobs/train_task.py --preset paper_er --tokens s3://b/tokens \
        --manifest s3://b/manifest --test-speakers 03 --output s3://b/er

An attention over layers at every time step (--fusion) and the task's network are trained together. The output is a
folder that evaluate reads; its fuser.safetensors can begin another task (--fuser).
"""

from pipeline import cli
from pipeline.tasks.stage import train_task

if __name__ == "__main__":
    cli.run(train_task, description=__doc__)
