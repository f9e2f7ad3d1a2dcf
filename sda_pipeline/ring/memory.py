"""The one door to mmap, memfd_create and eventfd. Knows nothing of what is written into the memory.

Every descriptor made here is close-on-exec: a child gets exactly those named in ``pass_fds``.
Memory is allocated when it is made (posix_fallocate) and sealed against a change of size: a mapping
of pages that are not there dies of SIGBUS.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
from pathlib import Path
from typing import NamedTuple

from sda_pipeline.errors import SdaError
from sda_pipeline.ring import layout

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_ONE = (1).to_bytes(8, sys.byteorder)
_EVENT_BYTES = 8


class RingFds(NamedTuple):
    """A ring's memory, and its eventfds ``data`` (published) and ``space`` (released)."""

    memory: int
    data: int
    space: int


class Mapping:
    """Shared memory, mapped: ``memory`` to write, ``view`` to read only, u64 ``words`` for both.

    A word is written only by ``words[i] = value``, one aligned 8-byte store. Never by
    struct.pack_into, which zeroes its target first and so shows a concurrent reader, or leaves to a
    successor, a 0.
    """

    def __init__(self, fd: int) -> None:
        self.memory = mmap.mmap(fd, os.fstat(fd).st_size)
        whole = memoryview(self.memory)
        self.words = whole.cast("Q")
        self.view = whole.toreadonly()
        whole.release()
        self._closed = False

    def close(self) -> None:
        """Unmap. Views others still hold stay readable; the mapping goes with the last of them."""
        if self._closed:
            return
        self._closed = True
        self.words.release()
        for release in (self.view.release, self.memory.close):
            with contextlib.suppress(BufferError):  # a slot's view, or an array on it, is alive
                release()
        del self.view, self.memory


def create_memory(name: str, size: int) -> int:
    """A sealed memfd of ``size`` zero bytes, all allocated. SdaError when memory is short."""
    action, hint = f"create {size} bytes of shared memory for {name}", "lower the edges' capacity"
    available = _available_bytes()
    if available is not None and size > available:
        # Allocating more than there is would wake the kernel's OOM killer instead of failing.
        raise SdaError(action, f"only {available} bytes of memory are available", hint)
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise SdaError(action, error.strerror or "the kernel refuses", hint) from error
    return fd


def create_ring(name: str, capacity: int) -> RingFds:
    """An empty ring of ``capacity`` bytes, rounded up to 64. SdaError when it cannot be."""
    size = layout.rounded_capacity(capacity)
    if size > layout.CAPACITY_MAX:
        raise SdaError(
            f"create the ring {name}", f"{capacity} bytes are over {layout.CAPACITY_MAX}"
        )
    fds = [create_memory(name, layout.CONTROL_BYTES + size)]
    try:
        fds += [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)]
        fds += [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)]
        mapping = Mapping(fds[0])
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise SdaError(f"create the ring {name}", f"{error}", "raise ulimit -n") from error
    mapping.words[layout.WORD_CAPACITY] = size
    mapping.words[layout.WORD_CREDIT] = size
    mapping.words[layout.WORD_MAGIC] = layout.MAGIC
    mapping.close()
    return RingFds(*fds)


def close_ring(fds: RingFds) -> None:
    """Close a ring's descriptors in this process; the memory goes with its last user."""
    for fd in fds:
        os.close(fd)


def kick(fd: int) -> None:
    """Signal an eventfd. A full counter is signal enough."""
    with contextlib.suppress(BlockingIOError):
        os.write(fd, _ONE)


def drain(fd: int) -> None:
    """Take back what was signalled on an eventfd, or 8 bytes of a wake-up pipe."""
    with contextlib.suppress(BlockingIOError):  # somebody else took it
        os.read(fd, _EVENT_BYTES)


def name_of(fd: int) -> str:
    """The name a memfd was made with, for messages."""
    try:
        link = str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return f"descriptor {fd}"
    return link.removeprefix("/memfd:").removesuffix(" (deleted)")


def _available_bytes() -> int | None:
    """What the kernel says could be allocated without swapping; None when it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kib[0]) * 1024 if kib else None
