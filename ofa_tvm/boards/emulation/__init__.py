"""Emulated arm64 boards: a real user space under QEMU with sshd, in namespaces of its own on this host."""
