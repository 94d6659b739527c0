"""Compare this machine's GPU with its CPU: agreement in float32 and bfloat16, speed, memory.

    python jobs/check_gpu.py
    ray job submit --working-dir . --entrypoint-num-gpus 1 -- python jobs/check_gpu.py --encoder microsoft/wavlm-large

It has not been run on a GPU by its authors. Exit code 1 where there is none.
"""

from pipeline import cli
from pipeline.gpu_check import check_gpu

if __name__ == "__main__":
    cli.run(check_gpu, description=__doc__)
