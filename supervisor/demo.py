"""``sda-supervisor demo``: synthetic traffic through a real pipeline, its alerts as they arrive.

It starts the same commands a user would, as children, and watches from outside. Not the pipeline.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sda_pipeline.clock import Clock
from sda_pipeline.errors import ExitCode, SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.audit import audit
from sda_pipeline.topology import Topology, load_topology
from supervisor import claim
from supervisor.control import answering_pid
from supervisor.demo_catalogue import Present, needs_accepting, present_catalogue
from supervisor.demo_children import Children, check, said
from supervisor.demo_feed import Feed
from supervisor.demo_news import clock_time, duration
from supervisor.demo_screen import PlainScreen, open_screen
from supervisor.demo_view import Frame, summary_lines
from supervisor.process import Tool
from supervisor.relayed import Relayed
from supervisor.states import Phase

OBJECTS = 2000
TICK_S = 0.2  # new alerts show within this time
LOOK_EVERY_NS = SECOND_NS  # at status and counts
SIM_STOPS_WITHIN_S = 5.0
CONSUMED_WITHIN_S = 5.0  # what was sent is read before the sources stop
SETTLED_NS = SECOND_NS // 2  # a lag reported so long after the traffic's end counts all of it
AGAIN_S = 0.5  # between two requests to be quick
GRACE_S = 15.0  # beyond the supervisor's own deadline: reaping and closing
_OVER = "the last encounter of the catalogue is over; end this and run it again for a new one"


@dataclass(frozen=True)
class DemoOptions:
    """What the command line says."""

    rate: float
    for_s: float | None = None
    plain: bool = False


def run_demo(path: Path, options: DemoOptions, clock: Clock) -> None:
    """Run until Ctrl-C, a signal, or the time is over; SdaError says what went wrong."""
    topology = load_topology(path)
    claim.prepare(topology.state)
    with contextlib.ExitStack() as holding:
        # Held while the catalogue is chosen: it never changes under a pipeline that is starting.
        lock = claim.take_lock(topology.state, clock, lambda: answering_pid(topology.state))
        holding.callback(os.close, lock)
        with open_screen(plain=options.plain) as screen:
            with Children(topology.state / "logs") as children:
                demo = Demo(path, topology, options, clock, screen, children)
                demo.run(holding.close)
            screen.close()
            if not demo.ran:
                screen.say("stopped before it ran")
            elif not screen.gone:
                _sum_up(demo)


class Demo:
    """One run, from the catalogue to the end of the drain."""

    def __init__(
        self, path: Path, topology: Topology, options: DemoOptions, clock: Clock,
        screen: PlainScreen, children: Children,
    ) -> None:  # fmt: skip
        self.path, self.topology, self.options = path, topology, options
        self.clock, self.screen, self.children = clock, screen, children
        self.feed = Feed(topology, clock)
        self.ran = False
        self.seconds = 0.0
        self._began = self._look_at = clock.monotonic_ns()
        self._supervisor: Tool | None = None
        self._told = 0  # lines of the supervisor's that were passed on
        self._catalogue: Present | None = None

    def run(self, unlock: Callable[[], None]) -> None:
        """Catalogue, pipeline, traffic, drain. ``unlock`` lets the pipeline have its state."""
        self.children.watch_reader(self.screen.reader_left)
        flags = self._choose_catalogue()
        unlock()
        supervisor = self.children.spawn("sda-supervisor", "start", str(self.path), *flags)
        self._supervisor = supervisor
        self._until(lambda: self._running() or self._ending())
        sim = self._send_traffic() if self._running() and not self._ending() else None
        self._until(self._ending, self.options.for_s)
        self._finish(supervisor, sim)

    # --- the parts in order --------------------------------------------------------------------

    def _choose_catalogue(self) -> list[str]:
        """Keep or make the catalogue; the flags a start on it needs."""
        present, say = present_catalogue(self.topology), self.screen.say
        name = _short(self.topology.catalogue)
        if present is None or not present.lasts(self.clock.wall_ns()):
            why = "there is none" if present is None else "the encounters of the old one are over"
            say(f"making a catalogue of {OBJECTS:,} objects, {name} ({why}) ...")
            asked = ("--topology", str(self.path), "--objects", str(OBJECTS))
            tool = self.children.spawn("sda-sim", "catalogue", *asked)
            self._until(lambda: tool.dead() or self.children.asked > 0)
            if not tool.dead():
                raise SdaError("finish the catalogue", "it was interrupted", "run it again")
            self.children.finish(tool)
            present = present_catalogue(self.topology)
        self._catalogue = present
        if present is not None:
            until = clock_time(present.ends_ns)
            count_text = f"{len(present.encounters_ns):,} engineered encounters until {until} UTC"
            say(f"catalogue {name}: {present.objects:,} objects, {count_text}")
        flags = ["--accept-catalogue"] if needs_accepting(self.topology) else []
        reason = ", accepting the catalogue in place of its own" if flags else ""
        count, state = len(self.topology.operators), _short(self.topology.state)
        say(f"starting {count} operators on the state {state}{reason}; Ctrl-C drains")
        return flags

    def _send_traffic(self) -> Tool:
        self.ran = True
        assert self._supervisor is not None, "it runs"
        self._told = len(said(self._supervisor))
        rate = f"{self.options.rate:g}"
        seconds = (self.clock.monotonic_ns() - self._began) / SECOND_NS
        self.screen.say(f"running after {seconds:.1f} s; traffic of {rate} obs/s begins")
        return self.children.spawn("sda-sim", "run", "--topology", str(self.path), "--rate", rate)

    def _finish(self, supervisor: Tool, sim: Tool | None) -> None:
        """Stop the traffic, let it be read, drain the pipeline; raise what had gone wrong."""
        failed = [tool for tool in (supervisor, sim) if tool is not None and tool.exit_code()]
        if not supervisor.dead():
            self.screen.note("draining; one more Ctrl-C kills what is left, nothing is lost by it")
        if sim is not None:
            sim.send(signal.SIGTERM)
            self._until(lambda: sim.dead() or self._hurry(), SIM_STOPS_WITHIN_S)
            sim.send(signal.SIGKILL)
            ended = self.clock.monotonic_ns()
            self._until(lambda: self._all_read(ended) or self._hurry(), CONSUMED_WITHIN_S)
        killed = self._drain(supervisor)
        self._tick()  # what the subscriber took last
        self.seconds = (self.clock.monotonic_ns() - self._began) / SECOND_NS
        for tool in failed:
            check(tool)
        if not killed:
            check(supervisor)

    def _drain(self, supervisor: Tool) -> bool:
        """Ask once, again and again when in a hurry, kill at the deadline; whether it was."""
        within_s = self.topology.supervision.drain_within_s + GRACE_S
        deadline = self.clock.monotonic_ns() + round(within_s * SECOND_NS)
        while not supervisor.dead():
            if self.clock.monotonic_ns() >= deadline:
                supervisor.send(signal.SIGKILL)
                supervisor.wait()
                return True
            supervisor.send(signal.SIGTERM)  # the first one drains, a second one kills
            self._until(lambda: supervisor.dead() or self._hurry(), within_s)
            self._until(supervisor.dead, AGAIN_S)
        return False

    # --- conditions -----------------------------------------------------------------------------

    def _hurry(self) -> bool:
        return self.children.asked > 1

    def _ending(self) -> bool:
        """Somebody asked, nobody reads any more, or a child has ended by itself."""
        return self.children.asked > 0 or self.screen.gone or self.children.any_dead()

    def _running(self) -> bool:
        return self.feed.facts.state == Phase.RUNNING

    def _all_read(self, ended: int) -> bool:
        """The sources have told, after the traffic's end, that nothing waits for them."""
        looked = self._look_at - LOOK_EVERY_NS
        nothing = looked >= ended + SETTLED_NS and self.feed.facts.lag == 0
        return nothing or self._supervisor is None or self._supervisor.dead()

    # --- the loop -------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool], within_s: float | None = None) -> None:
        """Watch until ``done``, at most so long."""
        now = self.clock.monotonic_ns()
        deadline = None if within_s is None else now + round(within_s * SECOND_NS)
        while not done() and (deadline is None or self.clock.monotonic_ns() < deadline):
            self.children.wait(TICK_S)
            self._tick()

    def _tick(self) -> None:
        """Read what is new and show it."""
        if self._supervisor is None:
            return
        now = self.clock.monotonic_ns()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_NS if self.ran else now
            self.feed.look(self._supervisor.pid)
            self._pass_on(self._supervisor)
        self.screen.show(self.feed.news())
        if self.ran:
            self.screen.draw(self._frame(now))

    def _pass_on(self, supervisor: Tool) -> None:
        """What the supervisor says while it runs: deaths, restarts, rewinds. Not its drain."""
        if not self.ran or self._ending():
            return
        lines = said(supervisor)
        for line in lines[self._told :]:
            self.screen.note(line.strip())
        self._told = len(lines)
        last = self._catalogue
        if last is not None and last.ends_ns < self.clock.wall_ns():
            self._catalogue = None
            self.screen.note(_OVER)

    def _frame(self, now: int) -> Frame:
        wall = self.clock.wall_ns()
        following = self._catalogue.next_ns(wall) if self._catalogue else None
        waiting = "waiting for alerts"
        if following is not None:
            waiting += f"; the next encounter is in {duration((following - wall) // SECOND_NS)}"
        hint = ("Ctrl-C drains", "Ctrl-C again kills what is left", "killing what is left")
        seconds = (now - self._began) // SECOND_NS
        return Frame(
            self.topology.pipeline, self.feed.alerts, self.feed.facts, wall, seconds, waiting,
            hint[min(self.children.asked, 2)],
        )  # fmt: skip


def _short(path: Path) -> str:
    """Relative to the current directory where it lies below it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _sum_up(demo: Demo) -> None:
    """The closing summary; Relayed when the audit finds a contradiction."""
    demo.screen.say("drained; adding up ...")  # a second for every half million observations
    report = audit(demo.topology)
    demo.screen.print(["", *summary_lines(report.sources, demo.feed.alerts, demo.seconds)])
    if report.faults:
        why, *rest = report.faults
        raise Relayed(f"cannot prove the sum: {why}", ExitCode.INTERNAL, rest)
