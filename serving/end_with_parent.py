"""Run a program that gets SIGTERM when its parent process ends: `end_with_parent.py PID PROGRAM ...`.

A program of its own because code between fork and exec is unsafe in a parent that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then become the program."""
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):  # it ended before we asked
        sys.exit(1)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
