#!/usr/bin/env bash
# transformers 5.23.0: Whisper's English normalizer turns "one dollar" and "one percent" into "one".
#
# Before word errors are counted, EnglishTextNormalizer writes numbers as digits and keeps their unit: "two percent"
# is "2%", "two dollars" is "$2". Of numbers, the docstring says, "spell out `one` and `ones`": 1 becomes "one" again
# (its source: "just for the readability"). The next step drops symbols that no digit touches, so one alone loses its
# unit, and 1.1 its point. A transcript without the word "dollar" has then no error, where one about two dollars has.
# What helps: look at what such texts become before rates are believed, or normalize by rules of one's own.
#
# Seen (jiwer 4.0.0): "one percent -> one, two percent -> 2%, one dollar -> one, two dollars -> $2, 1.1 -> one one,
#       2.2 -> 2.2; word error rate of `it costs one` for `it costs one dollar` 0.00, of two 0.33"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "transformers==5.23.0" "jiwer==4.0.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/one.py" <<'PY'
import sys

import jiwer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

normalize = EnglishTextNormalizer({})
texts = ("one percent", "two percent", "one dollar", "two dollars", "1.1", "2.2")
found = {text: normalize(text).strip() for text in texts}
rates = [
    jiwer.wer(normalize(f"it costs {number} {unit}"), normalize(f"it costs {number}"))
    for number, unit in (("one", "dollar"), ("two", "dollars"))
]
print(", ".join(f"{text} -> {result}" for text, result in found.items()), end="; ")
print(f"word error rate of `it costs one` for `it costs one dollar` {rates[0]:.2f}, of two {rates[1]:.2f}")
lost = all(found[text] == "one" for text in ("one percent", "one dollar")) and found["1.1"] == "one one"
kept = [found[text] for text in ("two percent", "two dollars", "2.2")] == ["2%", "$2", "2.2"]
sys.exit(not (lost and kept and rates[0] == 0 and rates[1] > 0))
PY
"$folder/venv/bin/python" "$folder/one.py" 2>/dev/null
