"""Neither the cut of a batch nor bad company changes a row; whatever raises names its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from operators.core.observables import Observables
from operators.core.reduction import Reducer
from operators.core.validation import RANGES
from sda_pipeline.astro.measurement import Reduced
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.limits import REDUCE_CHUNK_ROWS
from sda_pipeline.records.wire import Rejected
from sda_pipeline.settings import KIND_NAMES, RADAR, Physics
from sda_pipeline.vocabulary import ErrorKind
from tests.unit.observation_rig import KINDS, messages, one, reducer, sensors
from tests.unit.orbit_rig import mixed_catalogue

Parts = tuple[bytes, list[Rejected], list[int]]


def in_parts(by: Reducer, values: list[bytes], at_ms: np.ndarray, sizes: Sequence[int]) -> Parts:
    """Rows, rejects and index of a batch cut into parts of these sizes."""
    rows, rejects, index, at = b"", [], [], 0
    for size in sizes:
        part = by.reduce(values[at : at + size], at_ms[at : at + size])
        rows += part.rows.tobytes()
        rejects += [r._replace(index=r.index + at) for r in part.rejects]
        index += (part.index + at).tolist()
        at += size
    assert at == len(values)
    return rows, rejects, index


@pytest.mark.parametrize("kind", KINDS)
def test_any_cut_gives_the_same_bytes(kind: int) -> None:
    values, at_ms = messages(kind, 300)
    values = [v.replace(b'"TEME"', b'"J2000"') if k % 5 == 0 else v for k, v in enumerate(values)]
    whole = reducer(kind).reduce(values, at_ms)
    expected = (whole.rows.tobytes(), whole.rejects, whole.index.tolist())
    drawn = np.random.default_rng(5).multinomial(300, [0.2] * 5).tolist()
    for sizes in ([1] * 300, [2, 3, 7, 15, 16, 17, 100, 140], drawn):
        assert in_parts(reducer(kind), values, at_ms, sizes) == expected


def test_control_a_sum_over_the_batch_depends_on_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Observables.radar

    def leaking(self: Observables, *args: Any) -> Reduced:
        reduced = honest(self, *args)
        return reduced._replace(vec=reduced.vec + reduced.vec.sum() * 1e-16)

    monkeypatch.setattr(Observables, "radar", leaking)
    values, at_ms = messages(RADAR, 300)
    whole = reducer(RADAR).reduce(values, at_ms).rows.tobytes()
    assert in_parts(reducer(RADAR), values, at_ms, [100, 200])[0] != whole


def test_a_batch_of_several_chunks() -> None:
    values, at_ms = messages(RADAR, 60)
    times = -(-(2 * REDUCE_CHUNK_ROWS + 100) // 60)
    many = values * times
    many[REDUCE_CHUNK_ROWS] = b"{"
    many[REDUCE_CHUNK_ROWS - 1] = b""
    batch = reducer(RADAR).reduce(many, np.tile(at_ms, times))
    single = reducer(RADAR).reduce(values, at_ms).rows
    assert [r.index for r in batch.rejects] == [REDUCE_CHUNK_ROWS]
    assert batch.discarded == [(REDUCE_CHUNK_ROWS - 1, "empty")]
    assert batch.rows.tobytes() == single[batch.index % 60].tobytes()
    assert sorted([*batch.index.tolist(), *range(1023, 1025)]) == list(range(len(many)))


def corrupt(kind: int, good: bytes, rng: np.random.Generator) -> bytes:
    fields = orjson.loads(good)
    first = RANGES[kind][0].name
    return [
        lambda: b"",
        lambda: b"x" * 70_000,
        lambda: good[: int(rng.integers(1, len(good) - 1))],
        lambda: rng.bytes(100),
        lambda: orjson.dumps(fields | {first: "12"}),
        lambda: orjson.dumps({k: v for k, v in fields.items() if k != first}),
        lambda: orjson.dumps(fields | {"schemaVersion": 2}),
        lambda: orjson.dumps(fields | {first: 1e30}),
        lambda: orjson.dumps(fields | {"timeUnc": 0}),
        lambda: orjson.dumps(fields | {"idSensor": "nobody"}),
        lambda: orjson.dumps(fields | {"satNo": 4}),
        lambda: orjson.dumps(fields | {"obTime": "2026-02-30T00:00:00Z"}),
        lambda: orjson.dumps(fields | {"obTime": "2093-01-01T00:00:00Z"}),
        lambda: orjson.dumps(fields | {"id": "not a uuid"}),
        lambda: good.replace(f'"{first}":'.encode(), f'"{first}":1e999,"z":'.encode()),
        lambda: b'{"a":' * 12_000,
    ][int(rng.integers(16))]()  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_corrupt_traffic_changes_no_good_row(kind: int) -> None:
    """One in ten bad, of every sort: the good rows are those of the clean batch, byte for byte."""
    values, at_ms = messages(kind, 300)
    rng = np.random.default_rng(11)
    clean = reducer(kind).reduce(values, at_ms)
    mixed: list[bytes] = []
    stamps: list[int] = []
    good: list[int] = []
    for value, stamp in zip(values, at_ms.tolist(), strict=True):
        if rng.random() < 0.1:
            mixed.append(corrupt(kind, value, rng))
            stamps.append(stamp)
        good.append(len(mixed))
        mixed.append(value)
        stamps.append(stamp)
    dirty = reducer(kind).reduce(mixed, np.array(stamps))
    assert dirty.rows.tobytes() == clean.rows.tobytes()
    assert dirty.index.tolist() == good
    bad = [r.index for r in dirty.rejects] + [d.index for d in dirty.discarded]
    assert sorted(bad + good) == list(range(len(mixed)))
    assert [r.index for r in dirty.rejects] == sorted(r.index for r in dirty.rejects)


class Faulty(Trajectory):
    """Raises when asked for one object, or has no state of it."""

    bad = -1
    error: Exception | None = None

    def states(self, index: np.ndarray, t_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, v = super().states(index, t_ns)
        if self.error is not None and (index == self.bad).any():
            raise self.error
        r[index == self.bad] = np.nan
        return r, v


def faulty(kind: int, error: Exception | None, bad: int) -> Reducer:
    catalogue = mixed_catalogue()
    trajectory = Faulty(catalogue)
    trajectory.bad, trajectory.error = bad, error
    return Reducer(kind, catalogue, trajectory, sensors(), Physics())


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_raises_takes_no_other(kind: int) -> None:
    values, at_ms = messages(kind, 300)
    clean = reducer(kind).reduce(values, at_ms)
    index = mixed_catalogue().index(clean.rows["sat"])
    bad = int(index[7])
    batch = faulty(kind, ArithmeticError("no such root"), bad).reduce(values, at_ms)
    assert batch.rows.tobytes() == clean.rows[index != bad].tobytes()
    assert [r.index for r in batch.rejects] == np.flatnonzero(index == bad).tolist()
    assert {r.kind for r in batch.rejects} == {ErrorKind.PROCESSING_EXCEPTION}
    assert {r.message for r in batch.rejects} == {"ArithmeticError: no such root"}
    assert batch.rejects[0].sensor.startswith(KIND_NAMES[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_no_trajectory_is_a_processing_exception(kind: int) -> None:
    values, at_ms = messages(kind, 300)
    clean = reducer(kind).reduce(values, at_ms)
    index = mixed_catalogue().index(clean.rows["sat"])
    bad = int(index[7])
    batch = faulty(kind, None, bad).reduce(values, at_ms)
    assert batch.rows.tobytes() == clean.rows[index != bad].tobytes()
    assert {(r.kind, r.message) for r in batch.rejects} == {
        (
            ErrorKind.PROCESSING_EXCEPTION,
            "no trajectory: SGP4 gives no state of this object at obTime",
        )
    }


def test_all_rows_raise() -> None:
    fields, at_ms = one(RADAR)
    bad = int(mixed_catalogue().index(np.array([fields["satNo"]]))[0])
    batch = faulty(RADAR, ValueError("x" * 5000), bad).reduce(
        [orjson.dumps(fields)], np.array([at_ms])
    )
    assert len(batch.rows) == 0
    assert len(batch.rejects[0].message) == 300


def test_lack_of_memory_is_not_the_records_fault() -> None:
    fields, at_ms = one(RADAR)
    bad = int(mixed_catalogue().index(np.array([fields["satNo"]]))[0])
    with pytest.raises(MemoryError):
        faulty(RADAR, MemoryError(), bad).reduce([orjson.dumps(fields)], np.array([at_ms]))


def test_numbers_that_fail_are_a_processing_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Infinite information must not reach the sums of the correlator."""
    honest = Observables.radar

    def broken(self: Observables, *args: Any) -> Reduced:
        reduced = honest(self, *args)
        reduced.info[0, 3] = np.inf
        return reduced

    monkeypatch.setattr(Observables, "radar", broken)
    fields, at_ms = one(RADAR)
    (reject,) = reducer(RADAR).reduce([orjson.dumps(fields)], np.array([at_ms])).rejects
    assert reject.kind is ErrorKind.PROCESSING_EXCEPTION
    assert "not finite" in reject.message
