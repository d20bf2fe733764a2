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
# Workers take whole files. Three of them keep two cores busy: many tests wait for most of their time. They come in the
# order of the folders, for xdist's own begins the longest files last: those of few tests.
# But what looks for anything that boards leave on this machine is alone there.
workers=(-n 3 --dist loadfile --no-loadscope-reorder)
alone=(tests/boards/emulation tests/benchmarks/test_farm.py)
commands=tests/end_to_end/boards
status=0
stage() {
  echo "test: pytest, $1"
  .venv/bin/python -m pytest -q "${@:2}" || { code=$?; [ $code = 5 ] || status=$code; }  # 5: every test was left out
}
stage "everything but emulated boards" "${workers[@]}" --ignore "$commands" "${alone[@]/#/--ignore=}" "${selection[@]}" "$@"
stage "emulated boards" "${alone[@]}" "${selection[@]}" "$@"
stage "commands on emulated boards" "${workers[@]}" "$commands" "${selection[@]}" "$@"
exit $status
