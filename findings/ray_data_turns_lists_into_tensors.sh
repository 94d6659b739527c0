#!/usr/bin/env bash
# Ray Data 2.60.0: map_batches turns a column of lists into a tensor type, and which one depends on the rows of a batch.
#
# `read_parquet(folder).map_batches(f).write_parquet(out)`, with an f that changes nothing, gives f NumPy arrays: a
# column list<uint16> arrives as one array of two axes where all rows of the batch have one length, else as an array of
# arrays. On the way back Ray makes an extension type of its own of either: a tensor of one shape for equal lengths, one
# of variable shapes for others. So what was lists on disk is, to whoever knows nothing of Ray, large_list in one file
# and struct<data, shape> in another, and `pyarrow.parquet.read_table(out)` does not take them for one dataset. What
# helps: batch_format="pyarrow" (f gets and gives a pyarrow.Table), or "pandas"; both keep list<uint16>.
#
# Seen: default: large_list<element: uint16> | struct<data: large_list<element: uint16>, shape: list<element: int64>>;
#           read together: ArrowNotImplementedError
#       pyarrow and pandas: list<element: uint16> | list<element: uint16>; read together: 4 rows
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "ray[data]==2.60.0" "pyarrow==26.0.1" "numpy==2.4.6" "pandas==3.1.1" 2>/dev/null
cat > "$folder/write.py" <<'PY'
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import ray

folder = sys.argv[1]
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
for name, lengths in (("equal", (3, 3)), ("other", (3, 2))):
    lists = pa.array([list(range(length)) for length in lengths], pa.list_(pa.uint16()))
    os.makedirs(f"{folder}/{name}")
    pq.write_table(pa.table({"utterance_id": ["a", "b"], "layer_06": lists}), f"{folder}/{name}/shard.parquet")
    for form in ("default", "pyarrow", "pandas"):
        chosen = {} if form == "default" else {"batch_format": form}
        out = f"{folder}/out-{form}"
        ray.data.read_parquet(f"{folder}/{name}").map_batches(lambda batch: batch, **chosen).write_parquet(out)
PY
# Another process reads, which has not imported Ray and so knows none of its types.
cat > "$folder/read.py" <<'PY'
import os
import sys

import pyarrow.parquet as pq

folder = sys.argv[1]
for form in ("default", "pyarrow", "pandas"):
    out = f"{folder}/out-{form}"
    kinds = sorted(str(pq.read_schema(f"{out}/{file}").field("layer_06").type) for file in os.listdir(out))
    try:
        together = f"{pq.read_table(out).num_rows} rows"
    except Exception as error:
        together = type(error).__name__
    print(f"{form}: {' | '.join(kinds)}; read together: {together}")
PY
"$folder/venv/bin/python" "$folder/write.py" "$folder" > "$folder/log" 2>&1 || { tail -n 20 "$folder/log"; exit 1; }
"$folder/venv/bin/python" "$folder/read.py" "$folder" | tee "$folder/seen"
grep -q "^default: large_list<.* | struct<.*; read together: ArrowNotImplementedError" "$folder/seen"
grep -q "^pyarrow: list<element: uint16> | list<element: uint16>; read together: 4 rows" "$folder/seen"
grep -q "^pandas: list<element: uint16> | list<element: uint16>; read together: 4 rows" "$folder/seen"
