#!/usr/bin/env bash
# Installs what is missing, then checks style and types and runs the tests.
# Usage: scripts/test.sh [--fast] [PYTEST OPTIONS...]      --fast leaves out the tests marked slow
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
selection=()
if [ "${1:-}" = --fast ]; then
  selection=(-m "not slow")
  shift
fi

"$root/scripts/setup.sh" --test
cd "$root"
echo "test: style (ruff)"
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
echo "test: types (mypy, strict on the package)"
.venv/bin/mypy
echo "test: shell scripts"
bash -n scripts/*.sh .ci/run
echo "test: pytest"
exec .venv/bin/python -m pytest -q "${selection[@]}" "$@"
