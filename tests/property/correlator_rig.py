"""Drives the correlator's core as its shell does, crashes included, over random worlds.

A world is what the partitions hold, in offset order. A run is one way the pipeline may come through
it: how batches are cut, how sources interleave, when evaluation happens, when and how it crashes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.core.alerts import AlertState
from operators.core.batch import Source, build_frame
from operators.core.correlation import Correlation
from operators.core.positions import SourcePosition
from operators.core.step_effects import Effects, RowKey
from operators.core.watermark import EventClock
from sda_pipeline.limits import SECOND_NS, TIME_END_NS
from sda_pipeline.records.alert import canonical
from sda_pipeline.records.frames import (
    KIND_END,
    KIND_ROWS,
    Counts,
    Frame,
    Part,
    parse_payload,
)
from sda_pipeline.records.rows import ROW
from sda_pipeline.settings import KIND_NAMES, EventTime, Physics
from tests.property.scene_rig import (
    KINDS,
    beats,
    early_panes,
    random_rows,
    scene,
    true_deviations,
)
from tests.reference.slow_correlator import row_mapping
from tests.reference.slow_source import Lateness, Row

HASH = 0x0123456789ABCDEF
SOURCES = tuple(KIND_NAMES[kind] for kind in KINDS)
EVENT_TIME = EventTime()
# Of the delays between event and arrival: most in time by far, some late by a little or a lot.
IN_TIME_S = {"radar": 4.9, "optical": 34.0, "isl": 14.5}
EPOCHS_MAX = 3  # a store is lost at most twice in a run
CRASHES_MAX = 6
BEATS = 24  # per source
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


@dataclass(frozen=True)
class World:
    """Rows by source and partition, in offset order; what is late among them by the reference."""

    partitions: dict[str, list[np.ndarray]]
    accepted: list[Row]  # by the slow reference
    late: int


class Plan(NamedTuple):
    """How a run comes through its world; probabilities per step."""

    cut: float = 0.2  # that a batch ends after a row
    evaluate: float = 0.4
    crash: float = 0.1
    lost: float = 0.1  # of the crashes: the store is lost too


@dataclass
class Outcome:
    """What a run leaves."""

    finals: dict[str, str] = field(default_factory=dict)  # alert_id -> canonical
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same, as emitted
    counts: dict[str, int] = field(default_factory=dict)
    emitted: int = 0
    crashes: int = 0


def make_world(seed: int, rows: int, partitions: int) -> World:
    """``rows`` observations in all, duplicates of a third, and what drives event time."""
    rng = np.random.default_rng(seed)
    deviation, early = true_deviations(rng), early_panes(rng)
    share = max(1, rows // len(KINDS))
    by_source, accepted, late = {}, [], 0
    originals = {
        kind: random_rows(
            rng, share, kind, deviation=deviation, early=early, first_id=1 + share * n
        )
        for n, kind in enumerate(KINDS)
    }
    every = np.concatenate(list(originals.values()))
    for kind, own in originals.items():
        source = KIND_NAMES[kind]
        again = [_repeated(rng, own[rng.integers(len(own))]) for _ in range(share // 5)]
        foreign = [_repeated(rng, every[rng.integers(len(every))]) for _ in range(share // 10)]
        steps = beats(rng, BEATS, kind, first_id=1_000_000 * kind)
        both = np.concatenate([own, *again, *foreign, steps])
        spare = _delays(rng, len(both), IN_TIME_S[source])
        both = both[np.argsort(both["t"] + (spare * SECOND_NS).astype(np.int64), kind="stable")]
        place = rng.integers(0, partitions, len(both))
        both["partition"] = place
        by_source[source] = [both[place == p] for p in range(partitions)]
        slow = Lateness(kind, EVENT_TIME)
        for part in by_source[source]:
            accepted += [m for m in map(row_mapping, part) if slow.accept(m["partition"], m["t"])]
        late += slow.late
    return World(by_source, accepted, late)


def _delays(rng: np.random.Generator, count: int, in_time_s: float) -> np.ndarray:
    late = rng.random(count) < 0.06
    return np.where(late, rng.uniform(0.0, 3.0, count), rng.random(count) ** 2) * in_time_s


def _repeated(rng: np.random.Generator, row: np.ndarray) -> np.ndarray:
    """The same observation once more: identical, or in conflict under the same id."""
    again = row.reshape(1).copy()
    again["ingest"] += 1 + rng.integers(10**9)
    how = rng.random()
    if how < 0.3:
        again["vec"] *= rng.uniform(0.5, 1.5)
    elif how < 0.5:
        again["t"] += rng.integers(-(10**9), 10**9)  # may fall into another pane: then another row
    elif how < 0.6:
        again["sensor"] = rng.integers(0, 400)
    elif how < 0.7:
        again["sat"] = scene().catalogue.satno[rng.choice(scene().busy)]  # another object's
    return again


def make_frames(world: World, source: str, cut: float, rng: np.random.Generator) -> list[Frame]:
    """A source's frames for one merging of its partitions and cutting of its batches; END last."""
    kind = next(kind for kind in KINDS if KIND_NAMES[kind] == source)
    parts = world.partitions[source]
    order = rng.permutation(np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
    taken = [0] * len(parts)
    rows = np.zeros(len(order), ROW)
    for at, p in enumerate(order.tolist()):
        rows[at] = parts[p][taken[p]]
        taken[p] += 1
    ends = np.flatnonzero(rng.random(len(rows)) < cut) + 1
    allowed = round(EVENT_TIME.allowed_lateness_s * SECOND_NS)
    clock = EventClock(round(EVENT_TIME.max_lateness_s[source] * SECOND_NS), allowed)
    for p in range(len(parts)):
        clock.add(p)
    frames, counts = [], Counts()
    about = Source(SOURCES.index(source), kind, HASH, never_shed=True)
    for batch in np.split(rows, ends):
        late = clock.judge(batch["partition"], batch["t"])
        counts = counts.plus(Counts(len(batch), len(batch) - int(late.sum()), int(late.sum())))
        mark = clock.source_watermark()
        frames.append(_frame(about, KIND_ROWS, len(frames) + 1, mark, counts, batch[~late]))
    end = _frame(about, KIND_END, len(frames) + 1, TIME_END_NS, counts, rows[:0])
    return [*frames, end]


def _frame(
    about: Source, kind: int, position: int, mark: int, counts: Counts, rows: np.ndarray
) -> Frame:
    built = build_frame(about, kind, position, mark, 0, (Part(0, 0, 0, mark),), counts, rows)
    return parse_payload(built.header, built.payload)


class Store:
    """What survives a crash: the correlator's LMDB, as operators/checkpoint.py uses it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.rows: dict[RowKey, bytes] = {}
        self.positions: dict[str, bytes] = {}
        self.alerts: dict[str, bytes] = {}
        self.closed_to = 0

    def commit(self, core: Correlation, effects: Effects) -> None:
        """One transaction."""
        self.rows.update(effects.rows)
        for key in effects.rows_gone:
            del self.rows[key]
        self.positions |= {s: encode(core.positions[s]) for s in effects.sources}
        self.alerts |= {key: encode(state) for key, state in effects.alerts.items()}
        for key in effects.alerts_gone:
            self.alerts.pop(key, None)  # raised and closed in one step: never stored
        if effects.closed_to is not None:
            self.closed_to = effects.closed_to

    def open(self, physics: Physics) -> Correlation:
        """The core, rebuilt."""
        core = Correlation(scene().catalogue, physics, EVENT_TIME, SOURCES, HASH)
        for source, data in self.positions.items():
            core.positions[source] = decode(data, type=SourcePosition)
        core.alerts.update({k: decode(data, type=AlertState) for k, data in self.alerts.items()})
        core.closed_to = self.closed_to
        core.restore([(key, np.frombuffer(data, ROW)) for key, data in self.rows.items()])
        return core


class Step(NamedTuple):
    """What a committed step did, for who watches."""

    core: Correlation
    frames: list[tuple[str, Frame]]
    evaluated: bool
    emitted: list[list[dict[str, Any]] | int]
    epoch: int


Watcher = Callable[[Step], None]


def run(
    world: World, seed: int, plan: Plan, physics: Physics, watch: Watcher | None = None
) -> Outcome:
    """One way through the world; returns what it left. Every step is committed or lost whole."""
    rng = np.random.default_rng(seed)
    logs = {source: make_frames(world, source, plan.cut, rng) for source in SOURCES}
    store, outcome = Store(1), Outcome()
    core = store.open(physics)
    favour = rng.dirichlet(np.ones(len(SOURCES)))  # some runs let one source race ahead
    while True:
        behind = [s for s in SOURCES if core.positions[s].position < len(logs[s])]
        if not behind and not core.pending:
            break
        frames = _next_frames(core, logs, behind, favour, rng)
        effects = Effects()
        core.apply(frames, effects)
        evaluated = not behind or rng.random() < plan.evaluate
        if evaluated:
            core.evaluate(store.epoch, int(rng.integers(10**18)), effects)
        crash = outcome.crashes < CRASHES_MAX and rng.random() < plan.crash
        if not crash or rng.random() < 0.5:  # the commit went through
            store.commit(core, effects)
            _keep(effects, outcome)
            if watch:
                watch(Step(core, frames, evaluated, effects.emitted, store.epoch))
        if crash:
            outcome.crashes += 1
            if store.epoch < EPOCHS_MAX and rng.random() < plan.lost:
                store = Store(store.epoch + 1)
            core = store.open(physics)
    names = ("applied", "unpaired", "duplicate", "superseded", "shed", "quarantined")
    outcome.counts = {n: sum(getattr(p, n) for p in core.positions.values()) for n in names}
    sources = [Counts(*p.counts) for p in core.positions.values()]
    outcome.counts |= {"read": sum(c.read for c in sources), "late": sum(c.late for c in sources)}
    return outcome


def _next_frames(
    core: Correlation,
    logs: dict[str, list[Frame]],
    behind: list[str],
    favour: np.ndarray,
    rng: np.random.Generator,
) -> list[tuple[str, Frame]]:
    """Up to five frames, interleaved; possibly none."""
    weights = np.array([favour[SOURCES.index(s)] for s in behind])
    reached = {s: core.positions[s].position for s in behind}
    frames: list[tuple[str, Frame]] = []
    for _ in range(int(rng.integers(0, 6)) if behind else 0):
        source = behind[int(rng.choice(len(behind), p=weights / weights.sum()))]
        if reached[source] < len(logs[source]):
            frames.append((source, logs[source][reached[source]]))
            reached[source] += 1
    return frames


def _keep(effects: Effects, outcome: Outcome) -> None:
    """Remember finals; what is final stays, whatever epoch says it again."""
    outcome.emitted += len(effects.emitted)
    for entry in effects.emitted:
        for record in [] if isinstance(entry, int) else entry:
            if record["final"] and record["action"] == "insert":
                name, text = record["alert_id"], canonical(record)
                assert outcome.finals.get(name, text) == text, "a final was revised"
                outcome.finals[name], outcome.records[name] = text, record
