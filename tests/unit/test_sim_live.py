"""Pacing and patience: messages leave when due, a full broker is waited for, a stop is heard."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import pytest

from sda_pipeline.broker.port import OutMessage
from sda_pipeline.cli.sim.faults import FaultMix
from sda_pipeline.cli.sim.live import Pace, Ran, encounters_by, play, run_live
from sda_pipeline.cli.sim.recording import Recorded
from sda_pipeline.cli.sim.sending import PATIENCE_S, Sender, Stop
from sda_pipeline.cli.sim.timeline import Timeline, messages
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import BrokerFull, Transient, Unreachable
from tests.unit.sim_rig import EPOCH_NS, SECOND, scene, span

START = EPOCH_NS + 30 * SECOND


class Rig:
    """A producer that notes what it gets and when, on a clock moved by the waiting."""

    def __init__(self) -> None:
        self.clock, self.stop = ManualClock(wall_ns=START), Stop()
        self.got: list[tuple[int, str, OutMessage]] = []
        self.topics: dict[str, int] = {}
        self.said: list[str] = []
        self.closed, self.acknowledges = False, True
        self.before: Callable[[], None] = lambda: None
        sender = Sender(self, 3, self.clock, self.stop, self.said.append)
        self.pace = Pace(sender, self.clock, self.stop, self.said.append)

    def create_topic(self, topic: str, partitions: int) -> None:
        self.topics[topic] = partitions

    def produce(self, topic: str, out: Sequence[OutMessage]) -> None:
        self.before()
        self.got += [(self.clock.wall_ns() // 1_000_000, topic, message) for message in out]

    def flush(self, timeout_s: float) -> None:
        if not self.acknowledges:
            raise Transient("flush what was produced", "1 message is not acknowledged")

    def close(self) -> None:
        self.closed = True

    def run(self, end_s: float, mix: FaultMix | None = None) -> Ran:
        options = span(30.0, end_s, rate=100.0)
        timeline = Timeline(scene(), options, mix)
        return run_live(timeline, scene(), START, options.end_ns, self.pace)


def test_messages_leave_when_their_timestamp_is_due() -> None:
    rig = Rig()
    ran = rig.run(50.0)
    sent = [m for _, _, m in rig.got]
    assert all(0 <= now - m.timestamp_ms <= 25 for now, _, m in rig.got)
    due = [*messages(scene(), span(30.0, 50.0, rate=100.0))]
    before_the_end = [m for m in due if m.timestamp_ms < (START + 20 * SECOND) // 1_000_000 - 20]
    assert {m.value for m in before_the_end} <= {m.value for m in sent} <= {m.value for m in due}
    assert sum(rig.pace.sender.sent.values()) == len(sent)
    assert rig.topics == dict.fromkeys(rig.pace.sender.sent, 3)
    assert (ran.stopped, ran.faults) == (False, [])
    assert ran.ended_ns == pytest.approx(START + 20 * SECOND, abs=SECOND // 10)


def test_after_a_stall_nothing_is_lost() -> None:
    smooth, stalled = Rig(), Rig()
    smooth.run(50.0)
    calls = iter(range(10_000))

    def stall() -> None:
        if next(calls) == 20:
            stalled.clock.advance(10 * SECOND)

    stalled.before = stall
    stalled.run(50.0)
    late = {m.value for _, _, m in stalled.got}
    lost = {m.value for now, _, m in smooth.got if now < (START + 18 * SECOND) // 10**6} - late
    assert lost == set()


def test_injected_faults_are_reported_when_sent() -> None:
    rig = Rig()
    ran = rig.run(40.0, FaultMix(corrupt=0.2))
    keys = {(f.topic, f.timestamp_ms) for f in ran.faults}
    assert len(ran.faults) > 50
    assert keys <= {(topic, m.timestamp_ms) for _, topic, m in rig.got}


def test_it_says_once_that_the_encounters_have_ended() -> None:
    rig = Rig()
    rig.clock.advance(120 * SECOND)  # the last encounter is at 132 s
    start, options = rig.clock.wall_ns(), span(150.0, 160.0, rate=10.0)
    run_live(Timeline(scene(), options), scene(), start, options.end_ns, rig.pace)
    assert len(rig.said) == 1
    assert "encounters have ended" in rig.said[0]
    assert encounters_by(scene(), START, START + 60 * SECOND) >= 35


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_a_second_one_has_its_usual_effect(
    number: signal.Signals,
) -> None:
    rig = Rig()
    usual = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    calls = iter(range(10_000))
    rig.before = lambda: signal.raise_signal(number) if next(calls) == 30 else None
    try:
        rig.stop.listen()
        ran = rig.run(3000.0)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        for n, handler in usual.items():
            signal.signal(n, handler)
    assert ran.stopped
    assert ran.ended_ns < START + 60 * SECOND


def full_for(rig: Rig, seconds: float) -> Callable[[], None]:
    until = rig.clock.monotonic_ns() + round(seconds * SECOND)

    def before() -> None:
        if rig.clock.monotonic_ns() < until:
            raise BrokerFull("produce", "its map is full")

    return before


def test_a_full_broker_is_waited_for() -> None:
    rig = Rig()
    rig.before = full_for(rig, 20.0)
    rig.pace.sender.send([Recorded("t", b"1", b"{}", 7), Recorded("t", b"2", b"{}", None)])
    assert [m.key for _, _, m in rig.got] == [b"1", b"2"]
    assert rig.got[1][2].timestamp_ms == START // 1_000_000
    assert rig.said == ["waiting for the broker: its map is full"]
    rig.pace.sender.close()
    assert rig.closed


def test_a_broker_that_stays_full_is_an_error_with_a_hint() -> None:
    rig = Rig()
    rig.before = full_for(rig, 10 * PATIENCE_S)
    with pytest.raises(Unreachable, match=r"cannot produce to t: its map is full for 60 s; start"):
        rig.pace.sender.send([Recorded("t", b"1", b"{}", 7)])


def test_a_broker_that_acknowledges_nothing_is_unreachable() -> None:
    rig = Rig()
    rig.acknowledges = False
    rig.pace.sender.send([Recorded("t", b"1", b"{}", 7)])
    with pytest.raises(
        Unreachable, match=r"cannot flush.*: 1 message is not.*; see that the broker"
    ):
        rig.pace.sender.close()
    assert rig.closed


def test_a_stop_while_waiting_sends_nothing_more() -> None:
    rig = Rig()
    rig.before = full_for(rig, 20.0)
    rig.stop.asked = True
    rig.pace.sender.send([Recorded("t", b"1", b"{}", 7)])
    assert rig.got == []
    assert rig.pace.sender.sent.total() == 0


def recording(count: int) -> list[tuple[Recorded, int]]:
    return [(Recorded("t", b"%d" % k, b"{}", 1000 + 10 * k), k) for k in range(count)]


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 10.0), (10.0, 1.0), (None, 0.0)])
def test_a_recording_keeps_its_distances_order_and_timestamps(
    speed: float | None, seconds: float
) -> None:
    rig = Rig()
    assert play(recording(1001), 1001, speed, rig.pace) == 1001
    assert [m.timestamp_ms for _, _, m in rig.got] == [1000 + 10 * k for k in range(1001)]
    assert [m.key for _, _, m in rig.got] == [b"%d" % k for k in range(1001)]
    took = (rig.clock.wall_ns() - START) / SECOND
    assert took == pytest.approx(seconds, abs=0.05)
    if speed == 1.0:
        began = START // 1_000_000
        assert all(abs(now - began - (m.timestamp_ms - 1000)) <= 25 for now, _, m in rig.got)


def test_playing_stops_when_asked() -> None:
    rig = Rig()
    calls = iter(range(100))

    def before() -> None:
        rig.stop.asked = next(calls) == 2

    rig.before = before
    assert play(recording(1001), 1001, 1.0, rig.pace) < 20
