#!/usr/bin/env bash
# transformers 5.23.0: a thread that imports it while another thread is importing it gets a module without its classes.
#
# transformers/__init__.py replaces itself in sys.modules by a lazy module when it is nearly done. A thread whose
# `import transformers` began before that moment waits for the import to end, and then holds the module that was there
# when it began: without an error, but without HubertConfig, AutoModel and all other names that the lazy module serves.
# The same statement a moment later gives the right module. Programs that build one model per thread meet it at their
# start, as "module 'transformers' has no attribute ...", which reads like a missing class. Python's import lock does
# not protect from it. What helps: import transformers once before threads start, or build models one after the other.
#
# Seen: "during the import: no HubertConfig; afterwards: HubertConfig", five times out of five.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "transformers==5.23.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/two_threads.py" <<'PY'
import sys
import threading
import time

found = []


def second():
    while "transformers" not in sys.modules:
        time.sleep(0.001)
    import transformers

    found.append("HubertConfig" if hasattr(transformers, "HubertConfig") else "no HubertConfig")


thread = threading.Thread(target=second)
thread.start()
import transformers

thread.join()
found.append("HubertConfig" if hasattr(transformers, "HubertConfig") else "no HubertConfig")
print(f"transformers {transformers.__version__}: during the import: {found[0]}; afterwards: {found[1]}")
PY
for _ in 1 2 3 4 5; do "$folder/venv/bin/python" "$folder/two_threads.py"; done | tee "$folder/seen"
count=$(grep -c "transformers 5.23.0: during the import: no HubertConfig; afterwards: HubertConfig" "$folder/seen" || true)
echo "$count of 5 threads got a module without its classes"
[ "$count" -ge 3 ]
