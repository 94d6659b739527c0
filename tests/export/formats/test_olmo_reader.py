"""OLMo-core reads our arrays; it needs an environment of its own, which ``make readers`` builds."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_documents import made_shard, same, spelling, write_files

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(os.environ.get("STRATA_READERS", ROOT / ".venv-readers")) / "bin/python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no environment of readers here; `make readers` builds it")


def olmo_core(path, kind):
    command = [PYTHON, Path(__file__).parents[1] / "readers/read_olmo.py", path, kind]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize(("text_size", "kind"), [(0, "uint16"), (70_000, "uint32")])
def test_olmo_core_reads_our_documents(tmp_path, text_size, kind):
    # A document that ends without its end token, and an empty one, are found by the spans alone.
    made = made_shard([[5, 0, 9], [], [30], [1, 1]], given=spelling(text_size=text_size), framed=False)
    write_files(tmp_path, "part-00000", "olmo", made)
    assert same(olmo_core(tmp_path / "part-00000.npy", kind), made.ids)


def test_olmo_core_reads_a_loss_mask_as_bool(tmp_path):
    made = made_shard([[12], [7]], masked=True)
    files = write_files(tmp_path, "part-00000", "olmo", made)
    (tmp_path / "mask.npy").write_bytes(files[".mask.bin"])
    (tmp_path / "mask.csv.gz").write_bytes(files[".csv.gz"])
    starts, ends = made.documents.starts, made.documents.ends
    expected = [made.documents.loss_mask[start:end] for start, end in zip(starts, ends, strict=True)]
    assert same(olmo_core(tmp_path / "mask.npy", "bool_"), [np.array(each) for each in expected])
