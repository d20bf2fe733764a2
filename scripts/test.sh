#!/usr/bin/env bash
# Installs what is missing, then checks style and types and runs the tests.
# Usage: scripts/test.sh [--fast] [PYTEST OPTIONS...]      --fast leaves out the tests marked slow
# The tests of emulated boards need root on a Debian-like Linux; elsewhere they are skipped, and this says so.
# OFA_TVM_REQUIRE_EMULATION=1 makes what they miss an error.
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
selection=()
if [ "${1:-}" = --fast ]; then
  selection=(-m "not slow")
  shift
fi

boards=()
if [ "${OFA_TVM_REQUIRE_EMULATION:-}" = 1 ] || { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
  boards=(--boards)
else
  echo "test: not root on a Debian-like Linux: the tests of emulated boards are skipped"
fi
"$root/scripts/setup.sh" --test "${boards[@]}"
cd "$root"
echo "test: style (ruff)"
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
echo "test: types (mypy, strict on the package)"
.venv/bin/mypy
echo "test: shell scripts"
find scripts rpc .ci -type f \( -name '*.sh' -o -name run \) -print0 | xargs -0 -n 1 bash -n
# Workers take whole files, in the order of tests/conftest.py. Four of them keep two cores busy: many tests wait for most of
# their time.
echo "test: pytest"
exec .venv/bin/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@"
