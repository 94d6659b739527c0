#!/usr/bin/env bash
# lhotse 1.33.0: trimmed supervisions of a cut have words that end seconds before they begin.
#
# The times of an alignment are on the recording's clock, in cuts too; the bounds to which `trimmed_supervisions` trims
# are on the cut's. So in a cut that begins 3 s into its recording a word at 3.5 s to 4.0 s is cut at the cut's end, 1 s on
# the other clock: its duration becomes -2.5 s. Cuts at 0 s are right, so a short test does not show it. Labels per frame
# made of such intervals are empty, and CTM files written of them have negative durations.
# What helps: trim alignments on the recording's clock, by the supervision's start plus that of the cut, or take them of
# the untrimmed supervision.
#
# Seen: "word at 3.5 s, 0.5 s long; in a cut of the whole recording: 0.5 s; in a cut from 3.25 s to 4.25 s: -2.5 s"
# (It imports urllib3, which it does not declare.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "lhotse==1.33.0" "numpy==2.4.6" "torch==2.13.0" "urllib3==2.8.0" 2>/dev/null
cat > "$folder/trim.py" <<'PY'
import sys

from lhotse import CutSet, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource, Recording
from lhotse.supervision import AlignmentItem

recording = Recording(
    id="r", sources=[AudioSource("file", [0], "r.wav")], sampling_rate=16000, num_samples=160000, duration=10.0
)
word = AlignmentItem("hi", 3.5, 0.5)
said = SupervisionSegment(id="s", recording_id="r", start=3.0, duration=2.0, alignment={"word": [word]})
(cut,) = CutSet.from_manifests(RecordingSet.from_recordings([recording]), SupervisionSet.from_segments([said]))


def length(of) -> float:
    (supervision,) = of.trimmed_supervisions
    return round(supervision.alignment["word"][0].duration, 6)


whole, part = length(cut), length(cut.truncate(offset=3.25, duration=1.0))
print(f"word at 3.5 s, 0.5 s long; in a cut of the whole recording: {whole} s; in a cut from 3.25 s to 4.25 s: {part} s")
sys.exit(not (whole == 0.5 and part == -2.5))
PY
"$folder/venv/bin/python" "$folder/trim.py" 2>/dev/null
