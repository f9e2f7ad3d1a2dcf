"""Each rule of DESIGN 5 and 6 broken on purpose: the simulation must notice. Not a test itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from operators import (
    alert_sink,
    checkpoint,
    correlator,
    correlator_open,
    dlq_sink,
    forward,
    outbox_input,
    outlet,
    source,
)
from operators.core import effects
from operators.core.outbox import Place
from operators.core.positions import Fate, Reached
from sda_pipeline.dlq.marks import take
from sda_pipeline.ring import endpoints, layout
from sda_pipeline.state import subscriber_store
from tests.simulation.sim_disk import Disk, SimSourceLog
from tests.simulation.sim_memory import Memory, ZeroingWords

Break = Callable[[ExitStack], None]
RULES: dict[str, Break] = {}


def rule(name: str) -> Callable[[Break], Break]:
    """Register what breaks the rule of this name."""

    def register(function: Break) -> Break:
        RULES[name] = function
        return function

    return register


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Inside, the rule does not hold."""
    with ExitStack() as stack:
        RULES[name](stack)
        yield


def _wrap(stack: ExitStack, where: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put ``make(original)`` in the place of a function."""
    stack.enter_context(patch.object(where, name, make(getattr(where, name))))


# --- release before what makes it unnecessary -----------------------------------------------------


@rule("release before commit (correlator)")
def _(stack: ExitStack) -> None:
    def make(read: Any) -> Any:
        def broken_read(self: Any) -> Any:
            slots = read(self)
            if slots:
                self.input.release(slots[-1].end)
            return slots

        return broken_read

    _wrap(stack, correlator._Loop, "read", make)


@rule("release before commit (alert-sink, subscriber)")
def _(stack: ExitStack) -> None:
    def make(read: Any) -> Any:
        def broken_read(self: Any, position: int) -> Any:
            batch = read(self, position)
            if batch.end is not None:
                self.ring.release(batch.end)
            return batch

        return broken_read

    _wrap(stack, outbox_input.OutboxInput, "read", make)


@rule("release before sync (dlq-sink)")
def _(stack: ExitStack) -> None:
    def make(read: Any) -> Any:
        def broken_read(self: Any, consumer: Any, chunks: Any) -> Any:
            end = read(self, consumer, chunks)
            if end is not None:
                consumer.release(end)
            return end

        return broken_read

    _wrap(stack, dlq_sink._Loop, "read", make)


@rule("release before publish (normalize, prioritize)")
def _(stack: ExitStack) -> None:
    def forward_one(worker: Any, consumer: Any, output: Any, transform: Any) -> bool:
        slot = consumer.read()
        if slot is None:
            return False
        head, payload, crc = transform(slot)
        payload = bytes(payload)
        consumer.release(slot.end)
        worker.fail("after_transform")
        while not output.try_publish(head, (payload,), crc):
            worker.wait(forward.WAIT_S, [output.space_fd])
        return True

    stack.enter_context(patch.object(forward, "_forward_one", forward_one))


# --- acknowledge before durable -------------------------------------------------------------------


@rule("broker commit before the log's sync")
def _(stack: ExitStack) -> None:
    def make(record: Any) -> Any:
        def broken_record(self: Any, *arguments: Any, **named: Any) -> None:
            self.consumer.commit(self.offsets.next)
            record(self, *arguments, **named)

        return broken_record

    _wrap(stack, source.SourceLoop, "record", make)


@rule("board before commit (correlator)")
def _(stack: ExitStack) -> None:
    def make(commit: Any) -> Any:
        def broken_commit(self: Any, core: Any, *arguments: Any) -> Any:
            running = Disk.now.host.running
            for name, position in core.positions.items():
                running.board.set(f"{name}.applied", position.position)
            return commit(self, core, *arguments)

        return broken_commit

    _wrap(stack, checkpoint.Checkpoints, "commit", make)


@rule("board before commit (alert-sink)")
def _(stack: ExitStack) -> None:
    def make(store: Any) -> Any:
        def broken_store(self: Any, batch: Any, repeated: Any) -> None:
            store(self, batch, repeated)
            self.worker.board.set("sink_pos", self.log.position)

        return broken_store

    _wrap(stack, alert_sink._Loop, "store", make)


# --- emission, duplicates, positions, epochs ------------------------------------------------------


@rule("emission before commit")
def _(stack: ExitStack) -> None:
    loops: list[Any] = []

    def remember(begin: Any) -> Any:
        def broken_begin(self: Any, *arguments: Any) -> None:
            begin(self, *arguments)
            loops[:] = [self]

        return broken_begin

    def make(commit: Any) -> Any:
        def broken_commit(self: Any, core: Any, done: Any, sink_pos: int, inside: Any) -> Any:
            loops[0].unpublished.extend(self._number(done))
            loops[0].publish()
            commit(self, core, done, sink_pos, inside)
            return []

        return broken_commit

    _wrap(stack, correlator._Loop, "__init__", remember)
    _wrap(stack, checkpoint.Checkpoints, "commit", make)


@rule("frame published before the log's sync")
def _(stack: ExitStack) -> None:
    def make(append: Any) -> Any:
        def broken_append(self: Any, header: Any, payload: bytes, rejects: bytes) -> None:
            append(self, header, payload, rejects)
            ring = Disk.now.host.running.output_to("normalize")
            ring.try_publish(header.pack(), (payload,), header.payload_crc)

        return broken_append

    _wrap(stack, SimSourceLog, "append", make)


@rule("entries delivered before the sink's commit")
def _(stack: ExitStack) -> None:
    def make(store: Any) -> Any:
        def broken_store(self: Any, batch: Any, repeated: Any) -> None:
            store(self, batch, repeated)
            for item in batch.items:
                self.put(item.entry)

        return broken_store

    _wrap(stack, alert_sink._Loop, "store", make)


@rule("outbox entries deleted before the sink has them")
def _(stack: ExitStack) -> None:
    def make(commit: Any) -> Any:
        def broken_commit(self: Any, core: Any, done: Any, _sink: int, inside: Any) -> Any:
            return commit(self, core, done, self.meta.outbox_end, inside)

        return broken_commit

    _wrap(stack, checkpoint.Checkpoints, "commit", make)


@rule("dedup off")
def _(stack: ExitStack) -> None:
    accepted = effects.Verdict.ACCEPTED
    for module in (effects, alert_sink):
        stack.enter_context(patch.object(module, "judge", lambda *_: accepted))
    stack.enter_context(patch.object(outbox_input, "place_of", lambda *_: Place.NEXT))
    # The unique indexes are the last line of defence: off as well, or the fault would only crash.
    tables = tuple(line for line in subscriber_store._SCHEMA if "UNIQUE" not in line)
    stack.enter_context(patch.object(subscriber_store, "_SCHEMA", tables))


@rule("DLQ high-water mark off")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(dlq_sink, "take", lambda mark, head: (0, take(mark, head)[1])))


@rule("position check off")
def _(stack: ExitStack) -> None:
    # Whatever comes is next; the core's own assertion is told so, too.
    stack.enter_context(patch.object(Reached, "fate", lambda *_: Fate.APPLY))

    def make(apply: Any) -> Any:
        def broken_apply(self: Any, frames: Any, done: Any) -> None:
            for name, frame in frames:
                self.positions[name].position = frame.header.position - 1
                apply(self, [(name, frame)], done)

        return broken_apply

    _wrap(stack, correlator.Correlation, "apply", make)


@rule("epoch not raised")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(correlator_open, "_why_new_epoch", lambda *_: ""))
    stack.enter_context(patch.object(correlator_open, "_epoch_above_all", lambda *_: 1))


@rule("nothing republished from applied + 1")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(outlet.Outlet, "republish", lambda *_: None))


# --- rings ----------------------------------------------------------------------------------------


@rule("CRC off")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(layout, "_header_crc", lambda *_: 0))
    stack.enter_context(patch.object(endpoints.Consumer, "verify", lambda *_: None))


@rule("cursor through pack_into")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Memory, "words", ZeroingWords))


@rule("a full ring overwrites")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(endpoints.Producer, "_released", lambda self: self._head))


# --- stores ---------------------------------------------------------------------------------------


@rule("log not synced")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Disk, "log_syncs", new=False))


@rule("what was found is not synced on opening")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Disk, "opening_syncs", new=False))
