#!/usr/bin/env bash
# pystoi 0.4.1: measuring ESTOI moves NumPy's global random state, so what a program draws afterwards depends on it.
#
# stoi(..., extended=True) adds noise of the size of rounding errors before it normalises, and takes it from
# np.random.standard_normal: two draws per value of either signal's segments. The measure itself hardly changes, plain
# STOI draws nothing, and neither the docstring nor a parameter speaks of randomness. A seeded run that measures every
# tenth step, or one file more, shuffles, crops and augments differently from there on than a run that does not measure.
# What helps: keep np.random.get_state() around the call, or draw nothing that matters from the global state.
#
# Seen: "next number after the seed 0.548814, after STOI 0.548814, after ESTOI 0.457308".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "pystoi==0.4.1" "scipy==1.17.1" "numpy==2.4.6" 2>/dev/null
cat > "$folder/measure.py" <<'PY'
import sys

import numpy as np
from pystoi import stoi

private = np.random.default_rng(0)
clean = private.standard_normal(30_000) * np.repeat(private.random(300), 100)
noisy = clean + 0.5 * private.standard_normal(30_000)


def drawn_after(measure) -> float:
    np.random.seed(0)
    measure()
    return np.random.random()


nothing = drawn_after(lambda: None)
plain = drawn_after(lambda: stoi(clean, noisy, 10_000))
extended = drawn_after(lambda: stoi(clean, noisy, 10_000, extended=True))
print(f"next number after the seed {nothing:.6f}, after STOI {plain:.6f}, after ESTOI {extended:.6f}")
sys.exit(not (plain == nothing and extended != nothing))
PY
"$folder/venv/bin/python" "$folder/measure.py"
