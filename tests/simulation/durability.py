"""What each operator's store holds durably, and what it has said and sent. Not the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from operators.core.outbox import KIND_HORIZON
from operators.core.positions import SourcePosition
from sda_pipeline.dlq.files import read_marks
from sda_pipeline.dlq.marks import NOTHING
from sda_pipeline.errors import StateCorrupt
from sda_pipeline.records.alert import OUTBOX_HEAD
from sda_pipeline.records.frames import parse_header
from sda_pipeline.records.rejects import RejectHead
from sda_pipeline.ring import layout
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.state.subscriber_store import FILE_NAME
from tests.simulation.sim_memory import Memory

if TYPE_CHECKING:
    from tests.simulation.world import World

ALERTS = "alerts.sqlite"


def durable_words(world: World, name: str) -> dict[str, int]:
    """What each position word of an operator may say at most."""
    sources, state = world.topology.sources, world.topology.state
    if name in sources:
        logged = world.disk.logged.get(name)
        return {f"{name}.log_end": logged[0].position if logged else 0}
    if name == "alert-sink":
        return {"sink_pos": _position(world, state / ALERTS)}
    if name == "subscriber":
        return {"sub_pos": _position(world, world.topology.subscriber / FILE_NAME)}
    if name == "dlq-sink":
        marks = read_marks(state / "dlq")
        return {f"{source}.dlq_done": marks.get(source, NOTHING).done for source in sources}
    if name == "correlator":
        return _correlator_words(world)
    return {}


def _position(world: World, path: Path) -> int:
    database = world.disk.databases.get(path)
    if database is None:
        return 0
    row = database.connection.execute("SELECT position FROM meta").fetchone()
    return int(row[0]) if row else 0


def _correlator_words(world: World) -> dict[str, int]:
    words = dict.fromkeys((f"{s}.applied" for s in world.topology.sources), 0) | {"outbox_end": 0}
    directory = world.topology.state / CORRELATOR
    tables = world.disk.environment_at(directory)
    if tables is None or not tables.now:
        return words  # never opened, or not for long enough
    store = CorrelatorStore(directory, readonly=True)
    for source, value in store.positions().items():
        words[f"{source}.applied"] = msgspec.msgpack.decode(value, type=SourcePosition).position
    return words | {"outbox_end": store.meta.outbox_end}


def sent_ahead(world: World, name: str, durable: dict[str, int]) -> list[str]:
    """Frames and entries in the operator's rings that stand above what it holds durably."""
    word = {"correlator": "outbox_end", "alert-sink": "sink_pos"}.get(name, f"{name}.log_end")
    if word not in durable:
        return []
    return [
        f"{name} died having sent position {position:#x} to {edge.target}, "
        f"{durable[word]:#x} is durable"
        for edge in world.topology.edges
        if edge.source == name
        for position in _positions(world, edge.name)
        if position > durable[word]
    ]


def _positions(world: World, edge: str) -> Iterator[int]:
    """Positions of what lies in a ring, as far as it is whole."""
    region = Memory.regions[world.supervisor.wiring._rings[edge].memory]
    words, view = memoryview(region).cast("Q"), memoryview(region)
    data = view[layout.CONTROL_BYTES :]
    at, head = words[layout.WORD_RELEASED], words[layout.WORD_HEAD]
    while at < head:
        try:
            found = layout.locate(data, at, head)
        except layout.DamageError:
            return
        slot = data[found.head_at : found.head_end]
        if edge.endswith("->dlq-sink"):
            try:
                yield RejectHead.unpack(slot).position
            except StateCorrupt:  # a damaged slot; its reader says so
                return
        elif edge.endswith("->normalize"):
            yield parse_header(slot).position
        else:
            position, kind, _ = OUTBOX_HEAD.unpack(slot)
            if kind != KIND_HORIZON:
                yield position
        at = found.end
