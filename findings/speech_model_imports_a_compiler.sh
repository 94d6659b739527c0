#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: importing one speech encoder class imports torch's compiler, symbolic algebra,
# distributed tensors and SciPy's optimisers.
#
# "from transformers import HubertModel" needs none of them to build, load or run the network in eager mode. They come in
# through the base class: its losses include those of object detection (scipy.optimize), its weight loading knows
# sharded tensors (torch.distributed.tensor, and through it torch's symbolic shapes and sympy), and its attention
# interface knows continuous batching of text generation (torch._dynamo). On one core they are about half of the time
# of the import, which every worker process of a job pays at its start. SciPy is imported only where it is installed.
#
# Seen: "torch alone: none of them; with HubertModel: scipy.optimize sympy torch._dynamo torch.distributed.tensor".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "torch==2.13.0" "transformers==5.23.0" "scipy==1.17.1" "numpy==2.4.6" 2>/dev/null
cat > "$folder/imports.py" <<'PY'
import sys

WATCHED = ("scipy.optimize", "sympy", "torch._dynamo", "torch.distributed.tensor")

import torch

alone = [name for name in WATCHED if name in sys.modules]
from transformers import HubertModel

after = [name for name in WATCHED if name in sys.modules]
print(f"torch alone: {' '.join(alone) or 'none of them'}; with HubertModel: {' '.join(after)}")
PY
"$folder/venv/bin/python" "$folder/imports.py" | tee "$folder/seen"
grep -qx "torch alone: none of them; with HubertModel: scipy.optimize sympy torch._dynamo torch.distributed.tensor" "$folder/seen"
