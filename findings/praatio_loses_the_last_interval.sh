#!/usr/bin/env bash
# praatio 6.2.2: a TextGrid in short form whose last line has no line end loses its last interval, and a time before 0 in
# long form is read as the time after 0.
#
# The word or phone at the end of an utterance is gone without an error, though the tier itself still ends where that
# interval did; programs that join lines by "\n" write such files. The same tier with a line end, or in long form, is
# whole. A negative begin (-0.25, where a grid was shifted) becomes 0.25, so labels come late: the sign is left out of what
# is looked for.
# What helps: count intervals against the number that the file declares, or end the text with a line end before parsing.
#
# Seen: "short, line end at the end: a 0.0-0.5, b 0.5-1.0; without it: a 0.0-0.5; xmin -0.25 in long form: 0.25"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "praatio==6.2.2" 2>/dev/null
cat > "$folder/grids.py" <<'PY'
import sys
from pathlib import Path

from praatio import textgrid

FOLDER = Path(sys.argv[1])
HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'


def words(text: str) -> list[tuple[float, float, str]]:
    """Read a text as a file, and give the intervals of its one tier."""
    path = FOLDER / "one.TextGrid"
    path.write_text(text, encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    return [tuple(entry) for entry in grid.getTier("words").entries]


def short(end: str) -> str:
    lines = ["0", "1", "<exists>", "1", '"IntervalTier"', '"words"', "0", "1", "2", "0", "0.5", '"a"', "0.5", "1", '"b"']
    return HEAD + "\n".join(lines) + end


def long(begin: str) -> str:
    tier = f'class = "IntervalTier"\nname = "words"\nxmin = {begin}\nxmax = 1\nintervals: size = 1\n'
    interval = f'intervals [1]:\nxmin = {begin}\nxmax = 1\ntext = "a"\n'
    return HEAD + f"xmin = {begin}\nxmax = 1\ntiers? <exists>\nsize = 1\nitem []:\nitem [1]:\n{tier}{interval}"


ended, open_end, shifted = words(short("\n")), words(short("")), words(long("-0.25"))
told = [", ".join(f"{label} {begin}-{end}" for begin, end, label in found) for found in (ended, open_end)]
print(f"short, line end at the end: {told[0]}; without it: {told[1]}; xmin -0.25 in long form: {shifted[0][0]}")
whole = [(0.0, 0.5, "a"), (0.5, 1.0, "b")]
sys.exit(not (ended == whole and open_end == whole[:1] and shifted[0][0] == 0.25))
PY
"$folder/venv/bin/python" "$folder/grids.py" "$folder" 2>/dev/null
