"""Dying with the parent, also when that one is killed. Not a way to stop cleanly."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from sda_pipeline.errors import ExitCode, SdaError

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that made this process dies; leave at once if the
    parent, whose pid is ``parent``, already has.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise SdaError(f"follow process {parent}", f"prctl failed with errno {ctypes.get_errno()}")
    if os.getppid() != parent:
        sys.exit(ExitCode.INTERNAL)
