"""CPU time and memory of the operators, read from the kernel by pid. Sends nothing to anybody."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from sda_pipeline.limits import MIB
from tests.bench.bench_tree import Status


@dataclass
class Use:
    """What one process has used. CPU in seconds, user and system together."""

    process: psutil.Process
    base_s: float
    cpu_s: float
    rss: int = 0  # the largest seen, bytes
    private: int = 0  # of it not shared with other processes (rings, libraries)

    @property
    def spent_s(self) -> float:
        """CPU since the base."""
        return self.cpu_s - self.base_s


class Meter:
    """Follows the processes a status names, from when each first is running."""

    def __init__(self) -> None:
        self.uses: dict[str, Use] = {}

    def sample(self, status: Status) -> None:
        """Read every running operator once."""
        for found in status["operators"]:
            if found["state"] == "running" and found["pid"]:
                self.read(found["name"], found["pid"])

    def read(self, name: str, pid: int) -> None:
        """Read one process; a new pid under a known name begins anew."""
        try:
            use = self.uses.get(name)
            if use is None or use.process.pid != pid:
                process = psutil.Process(pid)
                spent = _cpu_s(process)
                use = self.uses[name] = Use(process, spent, spent)
            use.cpu_s = _cpu_s(use.process)
            memory = use.process.memory_info()
        except psutil.NoSuchProcess:
            return  # it ended since; what was last read stands
        if memory.rss > use.rss:
            use.rss, use.private = memory.rss, memory.rss - memory.shared

    def restart(self) -> None:
        """Count CPU from here on."""
        for use in self.uses.values():
            use.base_s = use.cpu_s

    def spent_s(self, name: str) -> float:
        """CPU of one process since its base; 0 when it was never seen."""
        use = self.uses.get(name)
        return use.spent_s if use else 0.0

    def memory_mib(self, name: str) -> tuple[float, float]:
        """Largest resident size, and the private part of it then."""
        use = self.uses[name]
        return use.rss / MIB, use.private / MIB


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
