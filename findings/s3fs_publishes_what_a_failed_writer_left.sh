#!/usr/bin/env bash
# s3fs 2026.9.0: a writer that fails inside `with fs.open(name, "wb")` publishes what it had written so far.
#
# S3 shows an object when it is whole, so one expects of a block that raises that nothing appears, as with boto3's
# upload_fileobj. But leaving the block closes the file, and closing completes the upload in parts: the object is there,
# cut off where the writer failed, and nothing tells it from a whole one. A shard so cut is then counted as done by
# whoever looks for names. The other way to lose a writer, that it is killed, leaves parts which nobody lists and which
# are paid for. What helps: `fs.transaction`, which takes the parts back, or to put the bytes at once.
#
# Seen: "the writer failed at 12000000 of 20000000 bytes; there is an object of 12000000 bytes; in a transaction: none".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "s3fs==2026.9.0" "fsspec==2026.9.0" "aiobotocore==3.10.0" "moto[server]==5.2.5" 2>/dev/null
cat > "$folder/failing.py" <<'PY'
import os

os.environ |= {"AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "thing", "AWS_DEFAULT_REGION": "us-east-1"}

import contextlib

import s3fs
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
store = s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}")
store.mkdir("bucket")


def write(name):
    with store.open(f"bucket/{name}", "wb", block_size=5 * 2**20) as sink:
        for piece in range(20):
            if piece == 12:
                raise OSError("the reader's disk went away")
            sink.write(bytes(1_000_000))


def size(name):
    store.invalidate_cache()
    return store.size(f"bucket/{name}") if store.exists(f"bucket/{name}") else None


with contextlib.suppress(OSError):
    write("plain")
with contextlib.suppress(OSError), store.transaction:
    write("careful")
plain, careful = size("plain"), size("careful")
told = "none" if careful is None else f"one of {careful} bytes"
print(f"the writer failed at 12000000 of 20000000 bytes; there is an object of {plain} bytes; in a transaction: {told}")
server.stop()
assert (plain, careful) == (12_000_000, None), "s3fs behaves otherwise now"
PY
"$folder/venv/bin/python" "$folder/failing.py"
