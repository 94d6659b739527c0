#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): of an MP3 of variable bit rate without a Xing frame the end is left out, in silence.
#
# The first frame of most MP3s (Xing or Info) counts the others. Where it is missing, as in streams that were recorded
# and files that were cut, libsndfile takes the length that libmpg123 guesses from the size of the file and the first bit
# rate, and reads no further than this guess: a file that begins with larger frames than it goes on with loses its end,
# without an error. Where the guess is too long, `frames` is wrong and reading ends in time. What helps: tell libsndfile
# through a virtual file that the file is longer (its reads then end where no more bytes come), or count the frames.
#
# Seen: "960000 samples written; with its first frame frames=960000, read 960000; without it frames=505656, read 505656".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soundfile==0.14.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/mp3.py" <<'PY'
import sys

import numpy as np
import soundfile

path, count = f"{sys.argv[1]}/a.mp3", 960_000
noise = np.random.default_rng(0).standard_normal(count) * np.linspace(0.3, 0.0003, count)
soundfile.write(path, noise, 16_000, bitrate_mode="VARIABLE", compression_level=0.3)
whole = soundfile.info(path).frames, len(soundfile.read(path)[0])
data = open(path, "rb").read()
kbits = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[(data[2] >> 4) - 1]
length = 72 * kbits * 1000 // 16_000 + (data[2] >> 1 & 1)
assert data[:2] == data[length : length + 2], "the second frame begins there"
open(path, "wb").write(data[length:])
cut = soundfile.info(path).frames, len(soundfile.read(path)[0])
print(f"{count} samples written; with its first frame frames={whole[0]}, read {whole[1]}; ", end="")
print(f"without it frames={cut[0]}, read {cut[1]}")
sys.exit(not (whole == (count, count) and cut[0] == cut[1] and 100_000 < cut[1] < 900_000))
PY
"$folder/venv/bin/python" "$folder/mp3.py" "$folder"
