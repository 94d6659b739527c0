"""Threads of libraries: set whether they are loaded, yet to be loaded, or being loaded by another thread."""

import subprocess
import sys

RACE = """
import sys, threading, time
from pipeline.work.runtime import set_threads
importing = threading.Thread(target=lambda: __import__("torch"))
importing.start()
while "torch" not in sys.modules:
    time.sleep(0.001)
set_threads(3)
importing.join()
import torch
print(torch.get_num_threads())
"""


def test_threads_can_be_set_while_another_thread_imports_torch():
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3"], done.stderr
