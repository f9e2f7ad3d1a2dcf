"""Who observes whom when: engineered objects densely before TCA, the background at random.

Stateless in time: a slice of 250 ms of event time depends on the seed and its own number only, so
a run may start anywhere and a recording is reproducible. Not what is measured (observing.py) nor
when it is sent (timeline.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.cli.sim.encoding import Encoder, draw_ids
from sda_pipeline.cli.sim.observing import Shots, measure
from sda_pipeline.cli.sim.scene import Scene
from sda_pipeline.cli.sim.truth import displaced
from sda_pipeline.cli.sim.visibility import choose_sensors, visible
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

SLICE_NS = SECOND_NS // 4  # generated at once: long enough for numpy, short enough to pace
ENGINEERED_HZ = (0.2, 0.5)  # SPEC 12
OBSERVED_FROM_NS, OBSERVED_TO_NS = 60 * SECOND_NS, 4 * SECOND_NS  # before and after T
VISIBLE_EVERY_NS = 10 * SECOND_NS  # who sees the background is looked up so often
BACKGROUND_MIX = {RADAR: 0.70, OPTICAL: 0.10, ISL: 0.20}
# Share of max_lateness between which latencies lie, and the power that bends a uniform draw
# towards the short end: radar is immediate, optical reduction takes many seconds now and then.
LATENCY = {RADAR: (0.05, 0.95, 1.0), ISL: (0.03, 0.80, 2.0), OPTICAL: (0.03, 0.85, 2.0)}
_PLAN, _SLICE = 101, 102  # random streams


class Message(NamedTuple):
    """One broker message."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int


@dataclass(frozen=True)
class Options:
    """How to observe it.

    ``rate`` counts observations per second of event time, all kinds together.
    """

    seed: int = 1
    rate: float = 100.0
    start_ns: int = 0
    end_ns: int | None = None  # needed by all_objects
    noise_free: bool = False
    all_objects: bool = False  # every object at 0.2-0.5 Hz instead of the engineered ones


class Traffic:
    """Generates observations slice by slice; slices may be asked for in any order."""

    def __init__(self, scene: Scene, options: Options) -> None:
        self.scene, self.options = scene, options
        self._trajectory = Trajectory(scene.catalogue)
        satno = scene.catalogue.satno.tolist()
        self._encoder = Encoder(scene.sites, satno)
        self._keys = [str(s).encode() for s in satno]
        self._plan_index, self._plan_t = _plan(scene, options)
        self._pairs_at = -1
        self._pairs: dict[int, tuple[I8, I8]] = {}

    def slice(self, number: int) -> list[Message]:
        """The observations truly made in [number, number + 1) x 250 ms, within the span."""
        rng = np.random.default_rng([self.options.seed, _SLICE, number])
        first, last = number * SLICE_NS, (number + 1) * SLICE_NS
        planned = self._planned(rng, first, last)
        wanted = _quota(self.options.rate, number)
        if len(planned.index) > wanted and not self.options.all_objects:
            keep = np.sort(rng.permutation(len(planned.index))[:wanted])
            planned = planned.take(keep)
        extra = self._background(rng, wanted - len(planned.index), first)
        shots = Shots(*(np.concatenate(pair) for pair in zip(planned, extra, strict=True)))
        inside = shots.t_ns >= self.options.start_ns
        if self.options.end_ns is not None:
            inside &= shots.t_ns < self.options.end_ns
        shots = shots.take(inside)
        return [m for kind in (RADAR, OPTICAL, ISL) for m in self._observe(rng, kind, shots)]

    def _planned(self, rng: np.random.Generator, first: int, last: int) -> Shots:
        low, high = np.searchsorted(self._plan_t, [first, last])
        index, t_ns = self._plan_index[low:high], self._plan_t[low:high]
        if not len(index):
            return Shots(index, index, t_ns)
        r, _ = self._states(index, t_ns)
        leo = self.scene.catalogue.leo[index]
        seen = visible(self.scene.sites, r, leo, t_ns, self.scene.physics.dut1_s)
        sensor = choose_sensors(seen, self.scene.sites, rng.random(len(index)))
        return Shots(index, sensor, t_ns).take(sensor >= 0)

    def _background(self, rng: np.random.Generator, count: int, first: int) -> Shots:
        self._look(first)
        shares = {k: BACKGROUND_MIX[k] for k, (_, index) in self._pairs.items() if len(index)}
        none = np.empty(0, np.int64)
        if count <= 0 or not shares:
            return Shots(none, none, none)
        t_ns = first + rng.integers(0, SLICE_NS, count)
        weights = np.array([*shares.values()])
        kind = rng.choice([*shares], size=count, p=weights / weights.sum())
        draw = rng.random(count)
        index, sensor = np.empty(count, np.int64), np.empty(count, np.int64)
        for k in shares:
            rows = np.nonzero(kind == k)[0]
            sensors, objects = self._pairs[k]
            chosen = (draw[rows] * len(objects)).astype(np.int64)
            index[rows], sensor[rows] = objects[chosen], sensors[chosen]
        return Shots(index, sensor, t_ns)

    def _look(self, t_ns: int) -> None:
        """Keep the list of who sees whom, made at multiples of VISIBLE_EVERY_NS."""
        at = t_ns // VISIBLE_EVERY_NS
        if at == self._pairs_at:
            return
        self._pairs_at = at
        sites, catalogue = self.scene.sites, self.scene.catalogue
        when = np.array([at * VISIBLE_EVERY_NS])
        r, _ = self._states(np.arange(catalogue.n), np.full(catalogue.n, when[0]))
        seen = visible(sites, r, catalogue.leo, when, self.scene.physics.dut1_s)
        for kind in BACKGROUND_MIX:
            of_kind = np.nonzero(sites.kind == kind)[0]
            place, index = np.nonzero(seen[of_kind])
            self._pairs[kind] = (of_kind[place], index)

    def _states(self, index: I8, t_ns: I8) -> tuple[F8, F8]:
        """True states (m,3) of objects at times."""
        r, v = self._trajectory.states(index, t_ns)
        return displaced(r, v, self.scene.offsets[index])

    def _observe(self, rng: np.random.Generator, kind: int, shots: Shots) -> list[Message]:
        shots = shots.take(self.scene.sites.kind[shots.sensor] == kind)
        true = self._states(shots.index, shots.t_ns)
        sound = np.isfinite(true[0][:, 0])
        if not sound.all():  # decayed since the elements' epoch
            shots, true = shots.take(sound), (true[0][sound], true[1][sound])
        if not len(shots.index):
            return []
        noise = None if self.options.noise_free else rng
        dut1_s = self.scene.physics.dut1_s
        columns, stamp = measure(kind, shots, true, self.scene.sites, dut1_s, rng=noise)
        ids = draw_ids(rng, len(stamp))
        values = self._encoder.encode(kind, shots, columns, stamp, ids)
        low, high, power = LATENCY[kind]
        share = low + (high - low) * rng.random(len(stamp)) ** power
        latency = share * self.scene.event_time.max_lateness_s[KIND_NAMES[kind]]
        sent = shots.t_ns + np.rint(latency * SECOND_NS).astype(np.int64)
        topics, keys = self.scene.topics[kind], self._keys
        return [
            Message(topics[sensor % len(topics)], keys[index], value, at)
            for sensor, index, value, at in zip(
                shots.sensor.tolist(), shots.index.tolist(), values,
                (-(-sent // 1_000_000)).tolist(), strict=True,
            )
        ]  # fmt: skip


def _quota(rate: float, number: int) -> int:
    """How many observations a slice holds; adds up to ``rate`` exactly over any time."""
    micro = round(rate * 1_000_000) * SLICE_NS // SECOND_NS
    return (number + 1) * micro // 1_000_000 - number * micro // 1_000_000


def _plan(scene: Scene, options: Options) -> tuple[I8, I8]:
    """(catalogue index, time) of every planned observation, by time."""
    rng = np.random.default_rng([options.seed, _PLAN])
    if options.all_objects:
        assert options.end_ns is not None, "all objects are planned over a finite span"
        n = scene.catalogue.n
        index = np.arange(n)
        first = np.full(n, options.start_ns)
        last = np.full(n, options.end_ns)
    else:
        engineered = [e for e in scene.encounters if e.origin == "engineered"]
        pairs = np.array([(e.sat1, e.sat2) for e in engineered], np.int64).reshape(-1)
        index = scene.catalogue.index(pairs)
        t = np.repeat(np.array([e.tca_ns for e in engineered], np.int64), 2)
        first, last = t - OBSERVED_FROM_NS, t + OBSERVED_TO_NS
    low, high = ENGINEERED_HZ
    times, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for owner, begin, end in zip(index.tolist(), first.tolist(), last.tolist(), strict=True):
        step = SECOND_NS / rng.uniform(low, high)
        count = int((end - begin) / step) + 1
        t_ns = begin + np.rint((np.arange(count) + rng.random(count)) * step).astype(np.int64)
        times.append(t_ns[t_ns < end])
        owners.append(np.full(len(times[-1]), owner))
    t_all, index_all = np.concatenate(times), np.concatenate(owners)
    order = np.argsort(t_all, kind="stable")
    known = index_all[order] >= 0
    return index_all[order][known], t_all[order][known]
