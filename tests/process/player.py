"""Plays a recording into a broker no further than it is told to. Not what is recorded.

``sda-sim play`` goes by the clock alone: on a slow machine the traffic is over before the third of
ten kills. This one waits for the test at every moment the test has chosen, so that each kill falls
into flowing traffic, at the same place of the recording, whatever the machine.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from itertools import groupby

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.cli.sim.recording import Recorded, read_recording
from sda_pipeline.cli.sim.sending import Sender, Stop
from sda_pipeline.clock import SystemClock
from sda_pipeline.errors import ExitCode, Transient
from sda_pipeline.topology import load_topology
from tests.process.site import Site

TICK_S = 0.05
FLUSH_S = 1.0  # then it looks whether it is wanted any longer
SLICE_MS = 100  # of event time, sent at once


def _due(message: Recorded) -> float:
    assert message.timestamp_ms is not None, "the recording has times"
    return float(message.timestamp_ms // SLICE_MS * SLICE_MS)


class Player:
    """A thread that produces, through a broker's outages too. ``upto``: the message time, ms, that
    it must not pass yet.
    """

    def __init__(self, site: Site, recording: str, speed: float, upto: float) -> None:
        self.upto = upto
        self._speed = speed
        topology = load_topology(site.topology)
        self._producer = open_producer(topology.broker, kafka=topology.kafka)
        recorded = [message for message, _ in read_recording(site.root / recording)]
        self._slices = [(due, [*group]) for due, group in groupby(recorded, _due)]
        self._code: int = ExitCode.INTERNAL
        self._ended = threading.Event()
        self._killed = threading.Event()
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """0 when everything is sent and acknowledged, None before."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout_s: float) -> int:
        """Play to the end, as a process would; TimeoutExpired when it takes longer."""
        self.upto = float("inf")
        if not self._ended.wait(timeout_s):
            raise subprocess.TimeoutExpired("player", timeout_s)
        self._thread.join()
        return self._code

    def kill(self) -> None:
        """Send no more."""
        self._stop.asked = True
        self._killed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._code = self._play()
        finally:
            self._producer.close()
            self._ended.set()

    def _play(self) -> int:
        clock = SystemClock()
        sender = Sender(self._producer, 1, clock, self._stop, print)
        at, last = self._slices[0][0], clock.monotonic_ns()
        for due, messages in self._slices:
            while at < due:
                if self._killed.wait(TICK_S):
                    return -signal.SIGKILL
                now = clock.monotonic_ns()
                at, last = min(at + (now - last) / 1e6 * self._speed, self.upto), now
            sender.send(messages)
        while not self._killed.is_set():
            try:
                self._producer.flush(FLUSH_S)
            except Transient:  # an outage that the test is at; the messages wait in the client
                continue
            return 0
        return -signal.SIGKILL
