#!/usr/bin/env bash
# Build the native RPC server. It links against the C library alone: TVM's runtime is found when it starts.
#
#   rpc/server/build.sh [--arch aarch64|x86_64] [--include DIR]... --out FILE [--sanitize]
#
# The compiler is $CC, or ziglang of $PYTHON (default python3), which builds for glibc 2.17, or
# <arch>-linux-gnu-gcc, or, for this machine's own arch, gcc or cc.
# The headers of tvm-ffi and DLPack are those of $PYTHON's tvm_ffi unless --include names others.
set -euo pipefail

die() {
    echo "build.sh: $*" >&2
    exit 2
}

source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
host_arch=$(uname -m)
arch=$host_arch
out=
sanitize=
includes=()
while [ $# -gt 0 ]; do
    case $1 in
    --arch | --include | --out)
        [ $# -ge 2 ] || die "$1 needs a value"
        case $1 in
        --arch) arch=$2 ;;
        --include) includes+=(-isystem "$2") ;;
        --out) out=$2 ;;
        esac
        shift 2
        ;;
    --sanitize)
        sanitize=yes
        shift
        ;;
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit
        ;;
    *) die "unknown option $1; see --help" ;;
    esac
done
case $arch in
aarch64 | x86_64) ;;
*) die "--arch $arch is neither aarch64 nor x86_64: TVM's runtime comes for these alone" ;;
esac
[ -n "$out" ] || die "--out FILE is needed"

if [ ${#includes[@]} -eq 0 ]; then
    # Only looked up, not imported: that would take a second, and torch with it where it is installed.
    folder=$("$python" -c '
import importlib.util, pathlib
spec = importlib.util.find_spec("tvm_ffi")
print(pathlib.Path(spec.origin).parent / "include" if spec else "")' 2>/dev/null) || folder=
    [ -n "$folder" ] || die "$python has no tvm_ffi with the headers: set PYTHON, or say --include DIR"
    includes=(-isystem "$folder")
fi

has_zig() { "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("ziglang") is None)' 2>/dev/null; }

if [ -n "${CC:-}" ]; then
    read -ra compiler <<<"$CC"
elif [ -z "$sanitize" ] && has_zig; then # zig comes without the address sanitizer's runtime
    compiler=("$python" -m ziglang cc -target "$arch-linux-gnu.2.17")
elif command -v "$arch-linux-gnu-gcc" >/dev/null; then
    compiler=("$arch-linux-gnu-gcc")
elif [ "$arch" = "$host_arch" ] && command -v gcc >/dev/null; then
    compiler=(gcc)
elif [ "$arch" = "$host_arch" ] && command -v cc >/dev/null; then
    compiler=(cc)
else
    die "no C compiler for $arch: install one with 'pip install ziglang' or 'apt install gcc-${arch/_/-}-linux-gnu', or set CC"
fi

flags=(-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fstack-protector-strong "-DTARGET_ARCH=\"$arch\"")
if [ -n "$sanitize" ]; then
    flags+=(-g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
else
    flags+=(-s)
fi
mkdir -p "$(dirname "$out")"
unfinished=$(mktemp "$out.XXXXXX")
trap 'rm -f "$unfinished"' EXIT
"${compiler[@]}" "${flags[@]}" "${includes[@]}" "$source_folder"/*.c -o "$unfinished" -ldl -lpthread
chmod 755 "$unfinished"
mv "$unfinished" "$out"
echo "built $out for $arch with ${compiler[*]}"
