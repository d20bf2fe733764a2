"""Run a program that the kernel kills as soon as the process that started it is gone.

Usage: ``python tethered.py PARENT_PID PROGRAM [ARGUMENT ...]``. Linux keeps the parent-death signal
across exec, so the program needs to know nothing about it. The signal is tied to the *thread* that
started this process: start it from a thread that lives as long as the process does.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() == parent:  # otherwise it died before prctl, and no signal will come
        os.execv(program[0], program)


if __name__ == "__main__":
    main()
