#!/usr/bin/env bash
# soxr 1.1.0: resampling int16 adds noise to every sample; digital silence comes out as -1, 0 and 1.
#
# libsoxr dithers whatever it writes as 16 bits. The Python package passes that on, has no argument against it and says
# only "Output is `np.ndarray` with same ndim and dtype with input". float32, float64 and int32 are left alone:
# the same zeros stay zeros. It happens even from 16 kHz to 16 kHz, where nothing is left to resample, and each channel
# gets noise of its own, so two equal channels are equal no more. What looks for exact zeros (padding, cut-out passages)
# or drops chunks by their hash finds nothing after it. What helps: resample float32, and round afterwards if need be.
#
# Seen: "silence 48 to 16 kHz: float32 0 of 16000 samples not zero, int16 3733; 16 to 16 kHz: int16 3732;
#       equal channels differ after it in 6183 of 16000 samples"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soxr==1.1.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/silence.py" <<'PY'
import sys

import numpy as np
import soxr

silence = np.zeros(48_000, np.int16)
as_float = np.count_nonzero(soxr.resample(silence.astype(np.float32), 48_000, 16_000))
as_integer = np.count_nonzero(soxr.resample(silence, 48_000, 16_000))
same_rate = np.count_nonzero(soxr.resample(silence[:16_000], 16_000, 16_000))
stereo = soxr.resample(np.stack([silence, silence], axis=1), 48_000, 16_000)
unequal = np.count_nonzero(stereo[:, 0] != stereo[:, 1])
print(
    f"silence 48 to 16 kHz: float32 {as_float} of 16000 samples not zero, int16 {as_integer}; "
    f"16 to 16 kHz: int16 {same_rate}; equal channels differ after it in {unequal} of 16000 samples"
)
sys.exit(not (as_float == 0 and min(as_integer, same_rate, unequal) > 1_000))
PY
"$folder/venv/bin/python" "$folder/silence.py"
