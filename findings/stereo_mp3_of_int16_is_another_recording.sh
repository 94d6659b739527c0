#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): an MP3 written from int16 in stereo is another recording than what was given.
#
# soundfile.write takes int16 for every format, and says that it is scaled to the full range. Two tones of peak 0.3 come
# back from such an MP3 with a peak of 1.08, and no sample is near what it was. One channel of int16 is written well, and
# so are two of int32, float32 and float64. There is no error, and the file has the right length, rate and channels. A
# corpus that is read as int16, to halve its memory, and stored as MP3 is lost. What helps: give float32.
#
# Seen (the second figure varies): "int16 mono 0.01, stereo 1.46; int32 mono 0.01, stereo 0.01; float32 mono 0.01, stereo 0.01"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soundfile==0.14.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/stereo.py" <<'PY'
import sys

import numpy as np
import soundfile

times = np.arange(48_000) / 48_000
tones = np.stack([0.3 * np.sin(2 * np.pi * pitch * times) for pitch in (440, 660)], axis=1)
kinds = {
    "int16": (tones * 32_767).astype(np.int16),
    "int32": (tones * 2_147_483_647).astype(np.int32),
    "float32": tones.astype(np.float32),
}
off, words = {}, []
for kind, samples in kinds.items():
    for channels in (1, 2):
        path = f"{sys.argv[1]}/{kind}.mp3"
        soundfile.write(path, samples[:, :channels], 48_000, format="MP3")
        heard = soundfile.read(path, always_2d=True)[0]
        assert heard.shape == (48_000, channels)
        off[kind, channels] = float(np.abs(heard - tones[:, :channels]).max())
    words.append(f"{kind} mono {off[kind, 1]:.2f}, stereo {off[kind, 2]:.2f}")
print("; ".join(words))
others = max(value for name, value in off.items() if name != ("int16", 2))
sys.exit(not (off["int16", 2] > 1 and others < 0.05))
PY
"$folder/venv/bin/python" "$folder/stereo.py" "$folder"
