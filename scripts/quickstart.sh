#!/usr/bin/env bash
# Installs ofa_tvm, then does its main job on this computer: profile, search, compile, measure, verify.
# Usage: scripts/quickstart.sh [LATENCY_MS]
# Without a budget it takes one between the fastest and the slowest subnet that profiling measured.
# Run again, it goes on with what it measured before; results are kept in runs/ in the repository's root.
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
budget=${1:-}

"$root/scripts/setup.sh"
cd "$root"
python=.venv/bin/python
show() { echo; echo "\$ ${*/#$python/python}"; "$@"; }

echo
echo "quickstart: the supernet 'characters' comes with the package; the device is this computer's CPU."
show "$python" -m ofa_tvm.profile --target local
if [ -z "$budget" ]; then
  measured=$("$python" -m ofa_tvm.profile --target local --json 2>/dev/null)
  budget=$("$python" -c '
import json, sys
profile = json.loads(sys.argv[1])
print(format((profile["fastest_ms"] * profile["slowest_ms"]) ** 0.5, ".2g"))' "$measured")
fi
bundle=runs/quickstart-bundle
show "$python" -m ofa_tvm.deploy --target local --latency "$budget" --out "$bundle" --overwrite
show "$python" -m ofa_tvm.bundle verify "$bundle"
show "$python" -m ofa_tvm.bundle run "$bundle" "$bundle/sample_image.png" --top 3
echo
echo "quickstart: done. Try another budget: $python -m ofa_tvm.deploy --target local --latency MILLISECONDS"
