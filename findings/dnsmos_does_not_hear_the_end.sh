#!/usr/bin/env bash
# speechmos 0.0.1.1: DNSMOS leaves out up to two seconds at the end of a recording that is longer than 9.01 seconds.
#
# It scores windows of 9.01 s, one per second, and gives their mean. The number of windows is int(floor(seconds) - 9.01)
# + 1: floor is taken of the length, before the window is subtracted, where the windows that fit are one more for nearly
# every length. Of 10.99 s it hears 9.01 s. The README promises scores of "a single sample" and speaks of no remainder.
# A vocoder that breaks down at the end of its output scores as if it did not. What helps: score the windows oneself,
# the last one placed at the end.
#
# Seen (10.9 s, the last 1.8 s replaced by loud noise): "end replaced: 4 of 4 scores equal; beginning: 0 of 4".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "speechmos==0.0.1.1" "librosa==0.11.0" "numba==0.68.1" "onnxruntime==1.32.0" "requests==2.34.2" \
    "scipy==1.17.1" "numpy==2.4.6" 2>/dev/null
cat > "$folder/end.py" <<'PY'
import sys

import numpy as np
from speechmos import dnsmos

numbers = np.random.default_rng(0)
seconds = np.arange(int(10.9 * 16_000)) / 16_000
clean = 0.3 * np.sin(2 * np.pi * 200 * seconds) * np.abs(np.sin(2 * np.pi * 2 * seconds))
noise = numbers.uniform(-0.9, 0.9, int(1.8 * 16_000))
end, beginning = clean.copy(), clean.copy()
end[-len(noise) :] = noise
beginning[: len(noise)] = noise
scores = dnsmos.run(clean, 16_000)
equal = [sum(dnsmos.run(other, 16_000)[name] == scores[name] for name in scores) for other in (end, beginning)]
print(f"end replaced: {equal[0]} of {len(scores)} scores equal; beginning: {equal[1]} of {len(scores)}")
sys.exit(not (equal[0] == len(scores) and equal[1] == 0))
PY
"$folder/venv/bin/python" "$folder/end.py"
