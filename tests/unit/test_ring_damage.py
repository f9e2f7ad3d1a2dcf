"""Every flipped byte in a ring is a rewind, never a wrong frame; with controls that show why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import ExitCode, Rewind
from sda_pipeline.ring import layout
from sda_pipeline.ring.endpoints import Consumer, Producer
from tests.unit.ring_rig import Ring, open_ring

CAPACITY = 1024


@pytest.fixture
def ring() -> Iterator[Ring]:
    with open_ring(CAPACITY) as ring:
        yield ring


@pytest.fixture
def small() -> Iterator[Ring]:
    with open_ring(layout.CAPACITY_MIN) as ring:
        yield ring


def _drive(ring: Ring) -> None:
    """Publish once, read and verify everything: the paths that must notice damage."""
    ring.publish(b"new", b"frame")
    while (slot := ring.consumer.read()) is not None:
        ring.consumer.verify(slot)
        ring.consumer.release(slot.end)


def test_the_driver_is_quiet_without_damage(ring: Ring) -> None:
    assert ring.publish(b"head!", b"payload")
    _drive(ring)
    assert ring.producer.occupied() == 0


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("at", range(layout.SLOT.size + 5))
def test_a_flipped_byte_in_slot_header_or_head_is_a_rewind(ring: Ring, at: int, mask: int) -> None:
    assert ring.publish(b"head!", b"payload")
    ring.flip(layout.CONTROL_BYTES + at, mask)
    with pytest.raises(Rewind, match=r"cannot read the ring test: .*the slot at 0") as caught:
        ring.consumer.read()
    assert caught.value.exit_code is ExitCode.REWIND


@pytest.mark.parametrize("at", range(7))
def test_a_flipped_byte_in_the_payload_is_a_rewind(ring: Ring, at: int) -> None:
    assert ring.publish(b"head!", b"payload")
    ring.flip(layout.CONTROL_BYTES + layout.payload_offset(5) + at)
    slot = ring.read()
    with pytest.raises(Rewind, match="payload CRC"):
        ring.consumer.verify(slot)


@pytest.mark.parametrize("at", range(layout.SLOT.size))
def test_a_flipped_byte_in_a_skip_marker_is_a_rewind(small: Ring, at: int) -> None:
    for _ in range(3):
        assert small.publish(b"", bytes(112))
    small.consumer.release([small.read() for _ in range(3)][-1].end)
    skip_at = small.raw.words[layout.WORD_HEAD]
    assert small.publish(b"", bytes(128))
    assert small.raw.words[layout.WORD_HEAD] == layout.CAPACITY_MIN + 144
    small.flip(layout.CONTROL_BYTES + skip_at + at)
    with pytest.raises(Rewind):
        small.consumer.read()


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
@pytest.mark.parametrize("byte", range(8))
@pytest.mark.parametrize("word", [layout.WORD_HEAD, layout.WORD_RELEASED, layout.WORD_CREDIT])
def test_a_flipped_byte_in_a_cursor_is_a_rewind(
    ring: Ring, word: int, byte: int, mask: int
) -> None:
    for _ in range(3):
        assert ring.publish(b"head!", b"payload")
    ring.consumer.release(ring.read().end)
    ring.flip(8 * word + byte, mask)
    with pytest.raises(Rewind):
        _drive(ring)
    if word != layout.WORD_CREDIT:  # a new consumer sets its credit anew
        with pytest.raises(Rewind):
            _drive(Ring(ring.fds, ring.producer, Consumer(ring.fds, ManualClock()), ring.raw))


@pytest.mark.parametrize("end", [Producer, Consumer])
@pytest.mark.parametrize("at", range(16))
def test_a_flipped_byte_in_the_control_words_stops_a_new_end(
    ring: Ring, at: int, end: type[Producer] | type[Consumer]
) -> None:
    ring.flip(at)
    with pytest.raises(Rewind, match="cannot attach to the ring test"):
        end(ring.fds)


def _stale(ring: Ring) -> None:
    """Move head over what the lap before has left, as a cursor damaged upwards would."""
    for _ in range(CAPACITY // 128):
        assert ring.publish(b"", bytes(112))
        ring.consumer.release(ring.read().end)
    assert ring.raw.words[layout.WORD_HEAD] == CAPACITY
    ring.raw.words[layout.WORD_HEAD] = CAPACITY + 128


def test_a_slot_of_an_earlier_lap_never_passes_for_new(ring: Ring) -> None:
    _stale(ring)
    with pytest.raises(Rewind, match=f"slot at {CAPACITY} does not match"):
        ring.consumer.read()


def test_control_without_its_position_a_stale_slot_would_pass(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = layout._header_crc
    monkeypatch.setattr(layout, "_header_crc", lambda _, *rest: real(0, *rest))
    _stale(ring)
    assert ring.consumer.read() is not None


def test_bytes_that_become_visible_late_are_waited_for(ring: Ring) -> None:
    class Healing(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            ring.flip(at)

    assert ring.publish(b"head!", b"payload")
    healing = Consumer(ring.fds, clock := Healing())
    ring.flip(at := layout.CONTROL_BYTES)
    slot = healing.read()
    assert slot is not None
    assert clock.monotonic_ns() > 0
    ring.flip(at := layout.CONTROL_BYTES + layout.payload_offset(5))
    healing.verify(slot)
    healing.close()


def test_a_second_consumer_is_noticed(ring: Ring) -> None:
    assert ring.publish()
    other = Consumer(ring.fds)
    slot = other.read()
    assert slot is not None
    other.release(slot.end)
    other.close()
    with pytest.raises(Rewind, match="not what was last written"):
        ring.consumer.read()


def test_a_second_producer_is_noticed(ring: Ring) -> None:
    other = Producer(ring.fds)
    assert other.try_publish(b"", [], 0)
    other.close()
    with pytest.raises(Rewind, match="cannot write the ring test: its head is 16, not the 0"):
        ring.publish()


def test_release_of_what_was_not_read_is_a_programmers_error(ring: Ring) -> None:
    assert ring.publish()
    with pytest.raises(AssertionError, match="release of 32"):
        ring.consumer.release(32)
