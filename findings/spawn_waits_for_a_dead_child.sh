#!/usr/bin/env bash
# CPython 3.11 (multiprocessing, start method spawn): Process.start() waits for ever where the child dies before it has
# read its arguments, if these are larger than a pipe's buffer (64 KiB on Linux).
#
# The parent writes the pickled process object into a pipe and holds the pipe's reading end open itself while it does
# (popen_spawn_posix.py, _launch). With the child dead nobody reads, but the write does not fail with EPIPE, because a
# reader is still there: the parent. Smaller arguments fit into the buffer, and start() returns. So hand large work over
# through a Pipe of your own after start(), whose other end only the child holds.
#
# Seen: "1000 bytes: start() returned; 1048576 bytes: start() still waits 10 s after the child was killed".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/spawn.py" <<'PY'
import multiprocessing
import os
import signal
import sys
import threading


def work(data):
    pass


def kill_first_child():
    while True:
        for thread in os.listdir("/proc/self/task"):
            try:
                for child in open(f"/proc/self/task/{thread}/children").read().split():
                    if "spawn_main" in open(f"/proc/{child}/cmdline").read():
                        os.kill(int(child), signal.SIGKILL)
                        return
            except OSError:
                continue


if __name__ == "__main__":
    size = int(sys.argv[1])
    process = multiprocessing.get_context("spawn").Process(target=work, args=(bytes(size),))
    starting = threading.Thread(target=process.start, daemon=True)
    killing = threading.Thread(target=kill_first_child)
    killing.start()
    starting.start()
    killing.join()
    starting.join(10)
    said = "start() still waits 10 s after the child was killed" if starting.is_alive() else "start() returned"
    print(f"{size} bytes: {said}", flush=True)
    os._exit(0)
PY
first=$(python3 "$folder/spawn.py" 1000)
second=$(python3 "$folder/spawn.py" 1048576)
echo "$first; $second"
