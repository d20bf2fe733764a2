#!/usr/bin/env bash
# Start TVM's RPC tracker in the foreground; devices register at it, and the commands find them there.
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
python=$root/.venv/bin/python

if [ ! -x "$python" ]; then
    echo "start_rpc_tracker.sh: no $python; run scripts/quickstart.sh first" >&2
    exit 2
fi
exec "$python" "$root/rpc/tracker.py" "$@"
