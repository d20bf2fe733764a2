#!/usr/bin/env bash
# Installs what ofa_tvm needs into .venv in the repository's root; run again, it only adds what is missing.
# Usage: scripts/setup.sh [--test] [--boards] [--benchmarks]
#   --test         adds what the tests need
#   --boards       adds what boards need: a compiler that links for 64-bit Arm, emulated boards' qemu and LLVM's models of
#                  Arm's cores (Debian packages), and zig, which builds the native RPC server for old boards, too
#   --benchmarks   adds what the benchmarks compare with: OpenVINO and ExecuTorch
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
requirements=("$root/requirements.txt")
kind=
boards=
benchmarks=
for option in "$@"; do
  case "$option" in
    --test) kind=--test; requirements+=("$root/requirements-test.txt") ;;
    --boards) boards=--boards; requirements+=("$root/requirements-boards.txt") ;;
    --benchmarks) benchmarks=--benchmarks; requirements+=("$root/requirements-benchmarks.txt") ;;
    *) echo "usage: scripts/setup.sh [--test] [--boards] [--benchmarks]" >&2; exit 2 ;;
  esac
done

# Installs Debian packages if this user may; otherwise says what is missing and fails.
debian() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: missing here: ${missing[*]} (Debian: sudo apt-get install ${missing[*]})" >&2
    return 1
  fi
  echo "setup: installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

# Installs an SSH server for the tests to start their own way; on this machine's network none must appear.
sshd_for_tests() {
  ! [ -x /usr/sbin/sshd ] || return 0
  local policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap "rm -f $policy" EXIT; }
  debian openssh-server || return
  if command -v systemctl >/dev/null; then systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true; fi
}

if [ -n "$boards" ]; then
  command -v aarch64-linux-gnu-g++ >/dev/null || debian g++-aarch64-linux-gnu || exit 2
  command -v llvm-mca-14 >/dev/null || debian llvm-14 || echo "setup: without it benchmarks/arm_static.py doesn't run here" >&2
  debian qemu-user-static iproute2 || echo "setup: without them there are no emulated boards here; real ones need nothing more" >&2
  [ -z "$kind" ] || sshd_for_tests || exit 2
fi

stamp=$venv/.ofa_tvm-installed$kind$boards$benchmarks
wanted=$(cat "${requirements[@]}" "$root/pyproject.toml" | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  echo "setup: $venv is up to date"
  exit 0
fi

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || { echo "setup: no $python here; install Python 3.11, or name one: PYTHON=... $0" >&2; exit 2; }
command -v g++ >/dev/null || debian g++ || exit 2

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
  "${pip[@]}" install -qq --requirement "$file" --constraint "$root/requirements.txt"
done
"${pip[@]}" install -qq --no-build-isolation --no-deps --editable "$root"
echo "$wanted" >"$stamp"
echo "setup: done"
