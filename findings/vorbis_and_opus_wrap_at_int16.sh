#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): read as int16, the loudest samples of Ogg Vorbis and Opus change their sign.
#
# What these codecs decode may be a little louder than what went in, also beyond full scale. soundfile.read documents
# int16 as "in the range from -2**15 to 2**15-1". From MP3, which overshoots as well, such a sample is read as 32767.
# From Vorbis and Opus the conversion wraps around instead: 1.032 becomes -31728, a click of full scale, and no error.
# A recording mastered to 0 dB is enough, and no check of the range finds it afterwards. int32 wraps too. libsndfile's
# open issue 194 is of 2017. What helps: read float32, clip to [-1, 1] and scale.
#
# Seen (one second of a tone of peak 0.999): "VORBIS 1.032 is read as -31728, 3802 signs wrong; OPUS 1.018 is read as
#       -32183, 1560 signs wrong; MPEG_LAYER_III 1.004 is read as 32767, 0 signs wrong"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soundfile==0.14.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/loud.py" <<'PY'
import sys

import numpy as np
import soundfile

tone = 0.999 * np.sin(2 * np.pi * 440 / 48_000 * np.arange(48_000))
found, words = {}, []
for container, codec in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
    path = f"{sys.argv[1]}/{codec}"
    soundfile.write(path, tone, 48_000, format=container, subtype=codec)
    decoded = soundfile.read(path, dtype="float32")[0]
    integers = soundfile.read(path, dtype="int16")[0]
    wrong = int(np.sum((np.abs(decoded) > 0.5) & (np.sign(decoded) != np.sign(integers))))
    loudest = int(np.argmax(decoded))
    found[codec] = (decoded[loudest] > 1, wrong)
    words.append(f"{codec} {decoded[loudest]:.3f} is read as {integers[loudest]}, {wrong} signs wrong")
print("; ".join(words))
overshoot = all(beyond for beyond, _ in found.values())
sys.exit(not (overshoot and found["VORBIS"][1] and found["OPUS"][1] and not found["MPEG_LAYER_III"][1]))
PY
"$folder/venv/bin/python" "$folder/loud.py" "$folder"
