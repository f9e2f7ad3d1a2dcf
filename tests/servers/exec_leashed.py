"""Become a server that dies with the process which asked for it: ``exec_leashed.py PARENT ARGV``.

A script and not a function after fork: its caller may have threads. See server_process.
"""

from __future__ import annotations

import os
import sys

from sda_pipeline.runtime.parent import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
