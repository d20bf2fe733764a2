#!/usr/bin/env bash
# Installs what ofa_tvm needs into .venv in the repository's root; run again, it only adds what is missing.
# Usage: scripts/setup.sh [--test]      --test adds what the tests need
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
requirements=("$root/requirements.txt")
case "${1:-}" in
  "") ;;
  --test) requirements+=("$root/requirements-test.txt") ;;
  *) echo "usage: scripts/setup.sh [--test]" >&2; exit 2 ;;
esac

stamp=$venv/.ofa_tvm-installed${1:-}
wanted=$(cat "${requirements[@]}" "$root/pyproject.toml" | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  echo "setup: $venv is up to date"
  exit 0
fi

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || { echo "setup: no $python here; install Python 3.11, or name one: PYTHON=... $0" >&2; exit 2; }
if ! command -v g++ >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing g++, which links the compiled libraries"
    apt-get update -qq && apt-get install -y -qq g++
  else
    echo "setup: no g++ here; install a C++ compiler (Debian: apt-get install g++)" >&2
    exit 2
  fi
fi

if [ ! -x "$venv/bin/python" ]; then
  echo "setup: creating $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check)

# PyPI's newest torch for Linux brings gigabytes of CUDA. Look before installing what pip would take.
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  torch=$(grep '^torch==' "$root/requirements.txt")
  echo "setup: looking for a CPU build of $torch"
  plan=$("${pip[@]}" install -qq --dry-run --report - "$torch")
  if grep -Eq '"name": "(nvidia-|cuda-|triton)' <<<"$plan"; then
    echo "setup: pip would take a CUDA build of $torch. Point pip at PyTorch's CPU builds (its web site names" >&2
    echo "       the index), e.g. PIP_INDEX_URL=<that index> $venv/bin/python -m pip install $torch, and run this again" >&2
    exit 2
  fi
fi

echo "setup: installing the pinned packages (about 1 GB on the disk, a minute or two)"
for file in "${requirements[@]}"; do
  "${pip[@]}" install -qq --requirement "$file"
done
"${pip[@]}" install -qq --no-build-isolation --no-deps --editable "$root"
echo "$wanted" >"$stamp"
echo "setup: done"
