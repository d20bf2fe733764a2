#!/bin/sh
# First process of an emulated board, in mount, PID, UTS and network namespaces of its own; becomes its sshd.
# Usage: init.sh NAME BASE QEMU_CPU CPUINFO FOLDER
#   BASE     the root file system that all boards share and none changes
#   FOLDER   of this board: its keys, and what it writes
# On standard input comes ADDRESS/PREFIX, once the board's end of the cable (eth0) is plugged in; an end of
# the input instead means that whoever starts the board is gone.
set -eu
ulimit -c 0  # a crash on the board is not to fill the host with core files
name=$1 base=$2 core=$3 cpuinfo=$4 folder=$5
root=$folder/root

mkdir -p "$folder/upper" "$folder/work" "$root"
layers=lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work
if ! mount -t overlay overlay -o "$layers" "$root" 2>/dev/null; then
  cp -a --reflink=auto "$base/." "$root/"
  mount --bind "$root" "$root"
fi

mount -t proc proc "$root/proc"
mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mount --bind "$root/proc/sys" "$root/proc/sys"
for hosts in cpuinfo sys; do
  mount -o remount,bind,ro "$root/proc/$hosts"
done
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

echo "$name" >/proc/sys/kernel/hostname
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost %s\n' "$name" >"$root/etc/hosts"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
install -D -m 600 "$folder/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$folder/id_ed25519.pub" "$root/root/.ssh/authorized_keys"

ip link set lo up
read -r address
ip address add "$address" dev eth0
ip link set eth0 up

# The host's file systems leave the board's sight, and from here on programs are the board's own.
mkdir -p "$root/mnt/host"
cd "$root"
pivot_root . mnt/host
cd /
exec /usr/bin/env -i QEMU_CPU="$core" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -ec '
  umount -l /mnt/host
  rmdir /mnt/host
  exec /usr/sbin/sshd -D -e -o "ListenAddress=$1" -o "SetEnv=QEMU_CPU=$2"
' sshd "${address%/*}" "$core" </dev/null
