"""Scripts about one encounter, played through one source and the correlator's core. No test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from operators.core.batch import Source, build_frame
from operators.core.correlation import Correlation
from operators.core.step_effects import Effects
from operators.core.watermark import EventClock
from sda_pipeline.limits import PANE_NS, SECOND_NS, TIME_END_NS
from sda_pipeline.records.frames import KIND_END, KIND_ROWS, Counts, parse_payload
from sda_pipeline.records.rows import ROW
from sda_pipeline.settings import RADAR, EventTime, Physics
from tests.property.correlator_rig import HASH
from tests.property.scene_rig import IDLE, scene

SOURCE = "radar"
EVENT_TIME = EventTime(max_lateness_s={SOURCE: 0.0})
ALLOWED = round(EVENT_TIME.allowed_lateness_s * SECOND_NS)


class Seen(NamedTuple):
    """One row: seconds before the pane of the encounter begins; who; what it says of the miss."""

    before_s: float
    who: str  # low, high (of the pair) or idle (another object)
    miss_m: float = 0.0  # of ``high``, across the relative velocity
    sigma_m: float = 5.0


def rows_of(script: list[Seen]) -> np.ndarray:
    """Position-only rows in the script's order; the low object is where the catalogue has it."""
    e = scene().encounters[0]
    across = np.cross(np.subtract(e.v2, e.v1), e.r1)
    across /= np.linalg.norm(across)
    begin = e.tca_ns // PANE_NS * PANE_NS
    rows = np.zeros(len(script), ROW)
    rows["kind"], rows["id"][:, 1] = RADAR, np.arange(len(script))
    for row, seen in zip(rows, script, strict=True):
        row["t"] = begin - round(seen.before_s * SECOND_NS)
        row["sat"] = {"low": e.low, "high": e.high, "idle": IDLE[0]}[seen.who]
        weight = 1.0 / (seen.sigma_m * seen.sigma_m)
        row["info"][[0, 2, 5]] = weight
        if seen.who == "high":
            row["vec"][:3] = weight * (seen.miss_m * across - np.subtract(e.r2, e.r1))
    return rows


class Played(NamedTuple):
    """Entries in order (closed_through left out), the core at the end, rows that were late."""

    emitted: list[list[dict[str, Any]]]
    core: Correlation
    late: int


def play(rows: np.ndarray, cuts: tuple[int, ...]) -> Played:
    """Batches end at ``cuts``; each is evaluated at once; then the end of input."""
    core = Correlation(scene().catalogue, Physics(), EVENT_TIME, (SOURCE,), HASH)
    clock, about = EventClock(0, ALLOWED), Source(0, 1, HASH, never_shed=True)
    clock.add(0)
    emitted: list[Any] = []
    late_rows = 0
    for position, batch in enumerate([*np.split(rows, cuts), None], 1):
        if batch is None:
            built = build_frame(about, KIND_END, position, TIME_END_NS, 0, (), Counts())
        else:
            late = clock.judge(batch["partition"], batch["t"])
            late_rows += int(late.sum())
            mark = clock.source_watermark()
            built = build_frame(about, KIND_ROWS, position, mark, 0, (), Counts(), batch[~late])
        effects = Effects()
        core.apply([(SOURCE, parse_payload(built.header, built.payload))], effects)
        core.evaluate(1, 0, effects)
        emitted += [entry for entry in effects.emitted if not isinstance(entry, int)]
    return Played(emitted, core, late_rows)


def told(entry: list[dict[str, Any]]) -> list[tuple[str, str | None, bool]]:
    """(action, level, final) of an entry's records."""
    return [(record["action"], record.get("level"), record["final"]) for record in entry]
