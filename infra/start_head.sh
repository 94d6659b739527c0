#!/usr/bin/env bash
# Start a Ray head node with token authentication and the dashboard on loopback.
#
#     infra/start_head.sh [further flags of `ray start`]
#
# Submit from the same machine, or through an SSH tunnel to port 8265; the token is in RAY_AUTH_TOKEN_PATH.
set -euo pipefail

export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    # Ray's own generator leaves the file readable by everyone (0644).
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"
exec ray start --head --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
