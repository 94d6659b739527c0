#!/usr/bin/env bash
# pytest-xdist 3.8.0 on pytest 9.2.0: `--dist loadgroup` keeps no group together, and says nothing.
#
# xdist writes the group behind the private `_nodeid` of a test and reads it back from `nodeid`; since pytest 9.2 that
# is made of another attribute, so the group never arrives and tests are dealt out one by one. Whatever was grouped
# because it shares a server, a GPU or a cluster then runs at the same time. `--dist loadfile` and `loadscope`, which
# read the plain node id, still hold.
#
# Seen (Python 3.11): "loadgroup: one group ran in 2 processes; loadfile: one file ran in 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "pytest==9.2.0" "pytest-xdist==3.8.0" 2>/dev/null
cat > "$folder/test_grouped.py" <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_something(number):
    time.sleep(0.3)
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{os.getpid()}\n")
PY
for how in loadgroup loadfile; do
    SEEN="$folder/$how" "$folder/venv/bin/python" -m pytest -q -n 2 --dist "$how" -p no:cacheprovider \
        --rootdir "$folder" "$folder/test_grouped.py" > "$folder/log"
done
grouped=$(sort -u "$folder/loadgroup" | wc -l)
by_file=$(sort -u "$folder/loadfile" | wc -l)
echo "loadgroup: one group ran in $grouped processes; loadfile: one file ran in $by_file"
[ "$grouped" = 2 ] && [ "$by_file" = 1 ]
