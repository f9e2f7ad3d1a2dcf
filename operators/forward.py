"""The loop normalize and prioritize share: read, transform, publish, release. Not what a transform
does.
"""

from __future__ import annotations

from collections.abc import Callable

from sda_pipeline.ring.endpoints import Consumer, Producer, Slot
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.vocabulary import Step

WAIT_S = 0.5

# What leaves instead of a slot: head, payload, payload CRC. The same bytes when nothing was
# changed.
Outgoing = tuple[bytes, memoryview | bytes, int]
Transform = Callable[[Slot], Outgoing]


def unchanged(slot: Slot) -> Outgoing:
    """Forward bytes without looking at them; the CRC travels along and the last reader verifies
    it.
    """
    return bytes(slot.head), slot.payload, slot.payload_crc


def forward(worker: Worker, transform: Transform = unchanged) -> None:
    """Forward every slot of every input, fairly, until drained."""
    inputs, output = [*worker.inputs.values()], worker.only_output
    worker.ready()
    while not worker.finished(lambda: all(source.empty() for source in inputs)):
        moved = False
        for source in inputs:
            moved |= _forward_one(worker, source, output, transform)
        if not moved:
            worker.wait(WAIT_S, [source.data_fd for source in inputs])


def _forward_one(worker: Worker, source: Consumer, output: Producer, transform: Transform) -> bool:
    """One frame, the four numbered steps of DESIGN 5. A kill between 3 and 4 repeats the frame."""
    # 1 read a frame, do not release it
    slot = source.read()
    if slot is None:
        return False
    worker.beat(Step.READ)
    worker.fail("after_read")
    # 2 transform
    head, payload, crc = transform(slot)
    worker.fail("after_transform")
    # 3 publish, waiting for room
    while not output.try_publish(head, (payload,), crc):
        if worker.leaving:
            return False  # not released: the successor reads it again
        worker.wait(WAIT_S, [output.space_fd])
    worker.beat(Step.PUBLISH)
    worker.fail("after_publish")
    # 4 release the input
    source.release(slot.end)
    worker.fail("after_release")
    return True
