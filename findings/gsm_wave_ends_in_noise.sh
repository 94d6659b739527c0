#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): a GSM 6.10 WAV of an odd number of blocks is read with 40 ms of noise at its end.
#
# A block of GSM 6.10 is 65 bytes and 320 samples. Of an odd number of blocks the data chunk has an odd size, and a byte
# of padding follows it, as RIFF asks. libsndfile rounds the size up to even, then takes the byte for the beginning of
# another block, whose other 64 bytes are what lay in memory: 320 samples that nobody wrote, decoded loudly and without
# an error. The data chunk's own size, and the fact chunk that libsndfile wrote itself, both say the right length. What
# helps: read floor(size of the data chunk / 65) * 320 samples, or as many as `fact` says.
#
# Seen: "written 24000, data chunk 4875 bytes = 75 blocks, read 24320"; 48,000 samples (150 blocks) are read as 48,000.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "soundfile==0.14.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/gsm.py" <<'PY'
import struct
import sys

import numpy as np
import soundfile

folder = sys.argv[1]
for count in (24_000, 48_000):
    tone = 0.3 * np.sin(np.arange(count) * 0.2)
    path = f"{folder}/{count}.wav"
    soundfile.write(path, tone, 8_000, subtype="GSM610")
    data = open(path, "rb").read()
    size = struct.unpack_from("<I", data, data.index(b"data") + 4)[0]
    with soundfile.SoundFile(path) as file:
        # Without a number of samples soundfile refuses to read a file in which libsndfile cannot seek.
        read = len(file.read(2 * count))
    print(f"written {count}, data chunk {size} bytes = {size // 65} blocks, read {read}")
PY
"$folder/venv/bin/python" "$folder/gsm.py" "$folder" | tee "$folder/seen"
grep -q "written 24000, data chunk 4875 bytes = 75 blocks, read 24320" "$folder/seen"
grep -q "written 48000, data chunk 9750 bytes = 150 blocks, read 48000" "$folder/seen"
