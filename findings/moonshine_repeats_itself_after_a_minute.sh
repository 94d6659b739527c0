#!/usr/bin/env bash
# moonshine-voice 0.1.0: without its voice activity detection, a recording of more than about a minute is not cut, and
# ends in words that are repeated until a limit.
#
# `Transcriber` takes audio of any length, and `vad_threshold` 0 turns the detection off, as one wants who judges speech:
# it invents words at beginnings and drops soft ones. But the detection is also what cuts: without it the model gets all
# of it at once. Nothing is raised or said. 44 s are understood; of 89 s, which are the same reading twice, the second
# half is lost and a few words come dozens of times. A word error rate of long recordings then tells of the recogniser.
# What helps: cut at pauses oneself, below half a minute.
#
# Seen: "once: 121 words, the most frequent four 2 times; twice, in 1 line: 448 words, the most frequent four 52 times".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "moonshine-voice==0.1.0" "numpy==2.4.6" "soxr==1.0.0" 2>/dev/null
cat > "$folder/long.py" <<'PY'
import collections
import pathlib
import sys
import wave

import moonshine_voice
import numpy as np
import soxr
from moonshine_voice import ModelArch
from moonshine_voice.transcriber import Transcriber

assets = pathlib.Path(moonshine_voice.__file__).parent / "assets"
with wave.open(str(assets / "two_cities.wav")) as file:
    rate, data = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
reading = soxr.resample(data / 32768, rate, 16_000).astype(np.float32)
model = Transcriber(model_path=str(assets / "tiny-en"), model_arch=ModelArch.TINY, options={"vad_threshold": "0.0"})


def heard(waveform):
    lines = model.transcribe_without_streaming(waveform.tolist(), 16_000).lines
    return len(lines), " ".join(line.text for line in lines).split()


(_, once), (lines, twice) = heard(reading), heard(np.concatenate([reading, reading]))
fours = collections.Counter(zip(*(twice[place:] for place in range(4)), strict=False))
times = fours.most_common(1)[0][1]
most_once = collections.Counter(zip(*(once[place:] for place in range(4)), strict=False)).most_common(1)[0][1]
print(f"once: {len(once)} words, the most frequent four {most_once} times; twice, in {lines} line: {len(twice)} words, "
      f"the most frequent four {times} times")
sys.exit(not (lines == 1 and times > 3 * most_once))
PY
"$folder/venv/bin/python" "$folder/long.py"
