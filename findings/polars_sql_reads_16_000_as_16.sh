#!/usr/bin/env bash
# polars 2.1.0: a number with an underscore in an SQL expression, 16_000, is read as 16 under the name _000.
#
# Python, Rust and PostgreSQL 16 take 16_000 for sixteen thousand. polars' SQL ends the number at the underscore, and what
# follows is an alias, as in "SELECT 16 total". So a filter by a sample rate keeps recordings of 8 kHz, without an error.
# What helps: write digits without underscores; refuse a word that touches a number before polars sees the text.
#
# Seen: "rates 8000, 16000, 44100; at least 16000: 16000, 44100; at least 16_000: 8000, 16000, 44100; named _000"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "polars==2.1.0" 2>/dev/null
cat > "$folder/rates.py" <<'PY'
import sys

import polars

rates = polars.DataFrame({"rate": [8000, 16000, 44100]})
plain, underscored = polars.sql_expr("rate >= 16000"), polars.sql_expr("rate >= 16_000")
kept = [rates.filter(each)["rate"].to_list() for each in (plain, underscored)]
name = rates.select(underscored).columns[0]
told = [", ".join(map(str, each)) for each in ([8000, 16000, 44100], *kept)]
print(f"rates {told[0]}; at least 16000: {told[1]}; at least 16_000: {told[2]}; named {name}")
sys.exit(not (kept == [[16000, 44100], [8000, 16000, 44100]] and name == "_000"))
PY
"$folder/venv/bin/python" "$folder/rates.py" 2>/dev/null
