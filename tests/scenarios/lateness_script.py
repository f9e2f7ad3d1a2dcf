"""Runs readable scripts of one source and the correlator: observations, batches, kills. No tests.

A script is text. Lines indented by four are what the pipeline answered; running a script writes
them anew, so a pinned script equals its own run. ``#`` and empty lines are for the reader. Times
are seconds after the catalogue's TCA, also the watermark's; pane 0 holds it and ends at +0.204.

    NAME PARTITION TIME OBJECT CLAIM SIGMA   an observation, waiting to be consumed
    deliver                                  the source consumes what waits, as one batch
    step                                     the correlator applies, evaluates, commits, publishes
    step, killed before the commit           ... and dies there; the next incarnation recovers
    step, killed after the commit            ... and dies before it has published anything
    end                                      the END frame
    count                                    the class of every observation so far

CLAIM is where the object says it is: ``catalogued`` (on its elements) or ``hit`` (displaced so that
it would strike the other). SIGMA is that of its position, m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from operators.core.batch import Built
from operators.core.correlation import Correlation
from operators.core.step_effects import Effects
from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.astro.encounter import Scheduled, schedule_pane
from sda_pipeline.astro.reference import pane_of
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import (
    EPOCH_SHIFT,
    KIND_RECORDS,
    NUMBER_MASK,
    Entry,
    canonical,
    raw_records,
)
from sda_pipeline.records.observations import Envelope, encode_isl
from sda_pipeline.records.times import format_time
from sda_pipeline.sensors import parse_sensors
from sda_pipeline.settings import ISL, EventTime, Physics
from tests.scenarios.inline_pipeline import (
    CATALOGUE_HASH,
    EPOCH,
    InlineSource,
    InlineStore,
    World,
    opened,
)
from tests.unit.orbit_rig import tle

PAIR = Path(__file__).parents[1] / "fixtures" / "iridium33-cosmos2251.tle"
COLLISION_NS = 1_234_284_959_795_800_000
EPOCH_2009 = 21_590.0  # days since 1949-12-31
SATNO = {"cosmos": 22675, "iridium": 24946, "bystander": 70001}
MAX_LATENESS_S, ALLOWED_S = 1.0, 5.0
PARTITIONS = {"p0": 0, "p1": 1}
ANSWER = "    "


class Observation(NamedTuple):
    """One line of a script, as a message."""

    name: str
    partition: int
    value: bytes
    stamp_ms: int


@cache
def catalogue() -> Catalogue:
    """The pair, and one object that meets nobody: its rows only move event time."""
    bystander = tle(SATNO["bystander"], rev_per_day=2.0056, epoch_days=EPOCH_2009)
    return parse_catalogue(PAIR.read_text() + bystander + "\n", "tle")


@cache
def world(allowed_s: float = ALLOWED_S, watch_km: float | None = 5.0) -> World:
    """Velocities are known to 1 mm/s, so that of two positions the better one simply wins."""
    link = {"kind": "isl", "pos_unc": 0.03, "vel_unc": 1e-6, "time_sigma_s": 0.0}
    sensors = parse_sensors({"sensors": {"LINK": link | {"floors": {"pos_floor_m": 0.001}}}})
    event_time = EventTime(None, allowed_s, {"isl": MAX_LATENESS_S})
    return World(catalogue(), sensors, Physics(watch_km=watch_km), event_time)


@cache
def encounter() -> Scheduled:
    (found,) = schedule_pane(catalogue(), pane_of(COLLISION_NS), Physics()).encounters
    return found


def observation(line: str) -> Observation:
    """NAME PARTITION TIME OBJECT CLAIM SIGMA."""
    name, partition, time, which, claim, sigma = line.split()
    t_ns = encounter().tca_ns + round(float(time) * SECOND_NS)
    satno = SATNO[which]
    (index,) = [k for k in range(catalogue().n) if catalogue().satno[k] == satno]
    r, v = catalogue().state_at(index, t_ns)
    if claim == "hit":
        towards = encounter().r2 - encounter().r1  # from cosmos to iridium
        r = r + (towards if which == "cosmos" else -towards)
    else:
        assert claim == "catalogued"
    uuid = UUID(int=int.from_bytes(name.encode(), "big"))
    envelope = Envelope(str(uuid), satno, "LINK", format_time(t_ns))
    own = {"posUnc": float(sigma) / 1e3}
    value = encode_isl(envelope, (r / 1e3).tolist(), (v / 1e3).tolist(), optional=own)
    return Observation(name, PARTITIONS[partition], value, t_ns // 1_000_000 + 1)


def name_of(uuid: str) -> str:
    digits = UUID(uuid).int
    return digits.to_bytes((digits.bit_length() + 7) // 8, "big").decode()


def seconds(t_ns: int) -> str:
    """Relative to the catalogue's TCA."""
    return f"{(t_ns - encounter().tca_ns) / 1e9:+.3f}"


def numbered(sequence: int) -> str:
    """EPOCH.N"""
    return f"{sequence >> EPOCH_SHIFT}.{sequence & NUMBER_MASK}"


def told(record: dict[str, Any]) -> str:
    """A record in one line."""
    sequence = numbered(record["sequence"])
    final = ", final" if record["final"] else ""
    if record["action"] == "retract":
        return f"{sequence} retract {numbered(record['supersedes'])}: {record['reason']}{final}"
    pane = record["pane"] - pane_of(encounter().tca_ns)
    rows = f"{record['n_obs1']} + {record['n_obs2']} rows"
    miss = f"miss {record['miss_m']:.0f} m"
    return f"{sequence} insert {record['level']}, {miss}, pane {pane}, {rows}{final}"


class Pipeline:
    """One source with its log, the correlator with its store, a sink that keeps what reaches it."""

    def __init__(
        self, world_: World | None = None, partitions: Sequence[str] = ("p0", "p1")
    ) -> None:
        self.world, self.partitions = world_ or world(), partitions
        self.source = InlineSource(0, ISL, self.world, [PARTITIONS[p] for p in partitions])
        self.waiting: list[Observation] = []
        self.frames: list[Built] = []  # the source's log
        self.store, self.unpublished = InlineStore(), list[Entry]()
        self.records: list[dict[str, Any]] = []  # at the sink
        self.sink_pos = 0
        self.recover()

    def recover(self) -> None:
        """A new incarnation of the correlator, from what was committed."""
        self.core = Correlation(
            self.world.catalogue, self.world.physics, self.world.event_time,
            [self.source.name], CATALOGUE_HASH,
        )  # fmt: skip
        self.store.restore(self.core)
        self.unpublished = [e for e in self.store.outbox if e.position > self.sink_pos]

    # --- commands ---------------------------------------------------------------------------

    def deliver(self) -> Iterator[str]:
        before = set(self.source.late)
        waiting, self.waiting = self.waiting, []
        self.frames.append(
            self.source.deliver(
                [o.value for o in waiting],
                [o.stamp_ms for o in waiting],
                [o.partition for o in waiting],
            )
        )
        late = sorted(map(name_of, self.source.late - before))
        kept = [o.name for o in waiting if o.name not in late]
        marks = ", ".join(
            f"{name} {seconds(self.source.clock.watermarks[PARTITIONS[name]])}"
            for name in self.partitions
        )
        yield f"frame {len(self.frames)}: {' '.join(kept) or 'no rows'}; watermarks {marks}"
        if late:
            yield f"late: {' '.join(late)}"

    def end(self) -> Iterator[str]:
        self.frames.append(self.source.end())
        yield f"frame {len(self.frames)}: END"

    def step(self, killed: str = "") -> Iterator[str]:
        reached = self.core.positions[self.source.name].position
        new = [b for b in self.frames if b.header.position > reached]
        effects = Effects()
        self.core.apply([(self.source.name, opened(built)) for built in new], effects)
        self.core.evaluate(EPOCH, COLLISION_NS, effects)
        if killed != "before the commit":
            self.unpublished += self.store.commit(self.core, effects)
        if killed:
            self.recover()
            yield f"recovered: {len(self.unpublished)} entries to publish"
            return
        records = list(self.publish())
        self.records += records
        yield from map(told, records) if records else ["nothing to say"]

    def publish(self) -> Iterator[dict[str, Any]]:
        """Hand the outbox to the sink: each entry once, in order."""
        published, self.unpublished = self.unpublished, []
        for entry in published:
            assert entry.position > self.sink_pos
            self.sink_pos = entry.position
            yield from raw_records(entry.body) if entry.kind == KIND_RECORDS else []

    def count(self) -> Iterator[str]:
        counts, position = self.source.counts, self.core.positions[self.source.name]
        assert counts.residue() == 0
        yield (
            f"read {counts.read} = {position.applied} applied, {position.unpaired} unpaired, "
            f"{position.duplicate} duplicate, {counts.late} late"
        )

    # --- results ----------------------------------------------------------------------------

    @property
    def finals(self) -> list[str]:
        """Canonical finals."""
        found = [r for r in self.records if r["final"] and r["action"] == "insert"]
        return [canonical(record) for record in found]


def run_script(script: str, pipeline: Pipeline) -> str:
    """The script with its answers as they are now."""
    commands: dict[str, Callable[[], Iterator[str]]] = {
        "deliver": pipeline.deliver,
        "end": pipeline.end,
        "count": pipeline.count,
        "step": pipeline.step,
        "step, killed before the commit": lambda: pipeline.step("before the commit"),
        "step, killed after the commit": lambda: pipeline.step("after the commit"),
    }
    lines: list[str] = []
    for line in script.splitlines():
        if line.startswith(ANSWER):
            continue
        lines.append(line)
        if line in commands:
            lines += [ANSWER + answer for answer in commands[line]()]
        elif line and not line.startswith("#"):
            pipeline.waiting.append(observation(line))
    return "\n".join(lines) + "\n"


def observations_of(script: str) -> list[Observation]:
    """Every observation of a script, in its order."""
    said = (line for line in script.splitlines() if not line.startswith((ANSWER, "#")))
    return [observation(line) for line in said if PARTITIONS.keys() & {*line.split()[1:2]}]
