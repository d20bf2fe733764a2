#!/bin/bash
# Unpacks Debian packages into a root file system whose /bin, /sbin and /lib are links into /usr.
# Usage: unpack.sh ROOT PACKAGE...
set -euo pipefail
cd "$1"
for package in "${@:2}"; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -p --keep-directory-symlink
done
