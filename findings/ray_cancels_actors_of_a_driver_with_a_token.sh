#!/usr/bin/env bash
# Ray 2.60.0: a driver that has a token joins a cluster that has none, its tasks run, and its actors are cancelled.
#
# With the roles exchanged Ray refuses to let the driver join, and says that a token is missing. So one expects of a
# driver that has one too many either the same or no difference. It joins, and a task answers; but each actor that it
# makes is dead within moments, "cancelled before it started running", "because all references to the actor were
# removed", while the driver holds its handle. Neither driver nor logs of the node tell of a token. Who has set
# RAY_AUTH_MODE=token for another cluster, and forgets to start this one with it, looks for the fault in actors.
# What helps: the same RAY_AUTH_MODE for `ray start` and for whoever joins.
#
# Seen: "without a token: task 1, actor 1; with a token: task 1, actor cancelled".
set -euo pipefail
folder=$(mktemp -d)
head=""
finish() {
    # The head and what it has started, in a group of its own.
    [ -z "$head" ] || kill -9 -- "-$head" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
export HOME="$folder/home" RAY_TMPDIR="$folder/r" RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
mkdir -p "$HOME" "$RAY_TMPDIR"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "ray[default]==2.60.0" 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
setsid "$folder/venv/bin/ray" start --head --block --node-ip-address 127.0.0.1 --port "$port" --num-cpus 2 \
    --include-dashboard=False --object-store-memory 100000000 --temp-dir "$folder/t" > "$folder/head.log" 2>&1 &
head=$!
for _ in $(seq 120); do
    grep -q "Ray runtime started" "$folder/head.log" && break
    sleep 1
done
cat > "$folder/driver.py" <<'PY'
import sys

import ray

ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)


@ray.remote
def task(number):
    return number


@ray.remote
class Actor:
    def ask(self, number):
        return number


answered = ray.get(task.remote(1), timeout=120)
actor = Actor.remote()
try:
    told = ray.get(actor.ask.remote(1), timeout=120)
except ray.exceptions.ActorDiedError as error:
    told = "cancelled" if "it was cancelled before it started running" in str(error) else str(error)
print(f"task {answered}, actor {told}")
PY
printf '%064d' 1 > "$folder/token"
chmod 600 "$folder/token"
without=$("$folder/venv/bin/python" "$folder/driver.py" "127.0.0.1:$port" 2>/dev/null)
with=$(RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token" \
    "$folder/venv/bin/python" "$folder/driver.py" "127.0.0.1:$port" 2>/dev/null)
seen="without a token: $without; with a token: $with"
echo "$seen"
[ "$seen" = "without a token: task 1, actor 1; with a token: task 1, actor cancelled" ]
