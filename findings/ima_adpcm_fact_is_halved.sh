#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): the fact chunk of a stereo IMA ADPCM WAV that it writes counts half of the samples.
#
# `fact` says how many samples a channel has, because the last block of a codec is filled up. libsndfile divides by the
# number of channels once too often. It does not read the chunk back itself, so its own files look right to it; a reader
# that believes `fact` drops the second half of such a recording. What helps: believe `fact` only where it takes away
# less than a block or two.
#
# Seen: "1 channel: read 20340, fact 20340; 2 channels: read 20410, fact 10205".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soundfile==0.14.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/fact.py" <<'PY'
import struct
import sys

import numpy as np
import soundfile

path, found = f"{sys.argv[1]}/a.wav", []
for channels in (1, 2):
    tone = 0.3 * np.sin(np.arange(20_000) * 0.2)
    soundfile.write(path, np.stack([tone] * channels, axis=1), 22_050, subtype="IMA_ADPCM")
    data = open(path, "rb").read()
    fact = struct.unpack_from("<I", data, data.index(b"fact") + 8)[0]
    found.append((len(soundfile.read(path)[0]), fact))
(one, one_fact), (two, two_fact) = found
print(f"1 channel: read {one}, fact {one_fact}; 2 channels: read {two}, fact {two_fact}")
sys.exit(not (one == one_fact and two >= 20_000 and two_fact == two // 2))
PY
"$folder/venv/bin/python" "$folder/fact.py" "$folder"
