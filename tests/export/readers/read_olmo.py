"""Read a file of ids by OLMo-core and print a line of JSON for each document: run by test_olmo_reader.py, elsewhere.

python read_olmo.py PATH uint16|uint32
"""

import json
import sys

import numpy as np
from olmo_core.data.utils import iter_document_indices, load_array_slice

if __name__ == "__main__":
    path, name = sys.argv[1:]
    dtype = getattr(np, name)
    for start, end in iter_document_indices(path, use_array_if_local=False, dtype=dtype):
        print(json.dumps(load_array_slice(path, start, end, dtype).tolist()))
