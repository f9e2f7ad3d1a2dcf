"""Loopback ports that no other test takes and that no outgoing connection is given.

Below the ephemeral range: a client that retries the port of a dead server there can be connected to
itself, and then the server cannot come back. Not a list of what listens.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from sda_pipeline.errors import Unreachable

HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 10_000, 32_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Port:
    """A port that is ours until ``release`` or the end of this process, used or not.

    The claim is a name in the kernel's abstract socket space, so one that dies leaves none behind.
    """

    def __init__(self) -> None:
        highest = min(_HIGHEST, _ephemeral_low())
        candidates = range(_LOWEST, highest)
        first = os.getpid() * 37 % max(1, len(candidates))  # processes search apart
        for number in (*candidates[first:], *candidates[:first]):
            claim = _claim(number)
            if claim is not None:
                self.number, self._claim = number, claim
                return
        why = f"none between {_LOWEST} and {highest} is free"
        raise Unreachable("take a loopback port", why, f"see {_EPHEMERAL}")

    @property
    def address(self) -> str:
        return f"{HOST}:{self.number}"

    def release(self) -> None:
        """Let others have it."""
        self._claim.close()


def accepts(number: int) -> bool:
    """Whether something listens on this port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, number)) == 0


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError), socket.socket() as probe:
        claim.bind(f"\0sda-pipeline-port-{number}")
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, number))
        return claim
    claim.close()
    return None


def _ephemeral_low() -> int:
    low = int(_EPHEMERAL.read_text().split()[0])
    return low if low > _LOWEST else _HIGHEST
