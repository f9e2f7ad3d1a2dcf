"""Whatever bytes arrive: nothing is raised, and every message ends in exactly one class."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.core.observables import Columns
from operators.core.reduction import ReducedBatch, Reducer
from sda_pipeline.records.rejects import Reject, pack_rejects, unpack_rejects
from sda_pipeline.records.wire import decode_batch
from sda_pipeline.vocabulary import ErrorKind
from tests.unit.observation_rig import KINDS, messages, reducer

# Not ProcessingException: that is the net under the reduction, and nothing may fall into it.
CLASSES = {ErrorKind.DESERIALIZATION, ErrorKind.SCHEMA_MISMATCH, ErrorKind.VALIDATION_FAILED}

KEYS = st.text(max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
PLACE = "#number#"
NUMBERS = st.sampled_from(
    [
        "0", "-0", "-0.0", "1e999", "-1e999", "1e-999", "9" * 400, "1" * 5000, "1e308", "-1e308",
        "NaN", "Infinity", "0.1e", "01", "+1", "1.", ".5", "0x10", "1_0", "18446744073709551616",
    ]
)  # fmt: skip
OPTIONAL = ("cov", "timeUnc", "schemaVersion", "priority", "senlat", "posUnc", "rangeUnc", "other")
EXTRA = st.sampled_from(
    [b"", b"x", b"\xff", b"\x00", b"{}", b",", b"[" * 3000, b'{"a":' * 3000, b" " * 70_000]
)


FALLEN: list[str] = []  # what the reduction raised, also where the net caught it


@cache
def shared(kind: int) -> Reducer:
    """Its only state is a cache."""
    made = reducer(kind)
    measure = made._measure

    def watched(chunk: Columns) -> Any:
        try:
            return measure(chunk)
        except Exception as error:
            FALLEN.append(f"{type(error).__name__}: {error}")
            raise

    made._measure = watched  # type: ignore[method-assign]
    return made


@pytest.fixture(autouse=True)
def nothing_falls() -> Iterator[None]:
    yield
    assert FALLEN == [], "the net under the reduction was needed"


def test_what_falls_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a batch of which one row cannot be measured."""
    values, at_ms = messages(KINDS[0], 2, noise=0.0)
    watching = shared(KINDS[0])
    monkeypatch.setattr(watching, "_trajectory", None)
    batch = watching.reduce(values, at_ms)
    assert [reject.kind for reject in batch.rejects] == [ErrorKind.PROCESSING_EXCEPTION] * 2
    assert len(FALLEN) == 3, "the chunk, then each of its rows"
    with pytest.raises(AssertionError):
        check(KINDS[0], values, batch)
    FALLEN.clear()


@cache
def template(kind: int, at: int) -> tuple[bytes, int]:
    values, at_ms = messages(kind, 8, noise=0.0)
    return values[at], int(at_ms[at])


@st.composite
def mutated(draw: st.DrawFn, kind: int) -> bytes:
    """A good message with something done to it: fields, bytes, nesting, numbers."""
    good, _ = template(kind, draw(st.integers(0, 7)))
    fields: dict[str, Any] = orjson.loads(good)
    for name in draw(st.lists(st.sampled_from([*sorted(fields), *OPTIONAL]), max_size=3)):
        if draw(st.booleans()) and name in fields:
            del fields[name]
        else:
            fields[name] = draw(JSON_VALUES | st.just(PLACE))
    raw = json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    raw = raw.replace(f'"{PLACE}"'.encode(), draw(NUMBERS).encode())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(EXTRA | st.binary(max_size=4)) + raw[at + draw(st.integers(0, 3)) :]
    return raw


def check(kind: int, values: list[bytes], batch: ReducedBatch) -> None:
    """Exactly one class each; rejects are typed, short, name their record and can be packed."""
    bad = [r.index for r in batch.rejects] + [d.index for d in batch.discarded]
    assert sorted(batch.index.tolist() + bad) == list(range(len(values)))
    assert {d.reason for d in batch.discarded} <= {"empty", "oversize"}
    for reject in batch.rejects:
        assert reject.kind in CLASSES
        assert 0 < len(reject.message) <= 300
        assert len(reject.sensor) <= 36
    packed = [
        Reject(0, 0, r.index, 0, r.kind, r.message, b"", values[r.index], r.sensor, "", 0)
        for r in batch.rejects
    ]
    assert unpack_rejects(pack_rejects(packed)) == packed
    rows = batch.rows
    assert set(rows["kind"].tolist()) <= {kind}
    assert np.isfinite(rows["info"]).all()
    assert np.isfinite(rows["vec"]).all()
    assert np.isfinite(rows["nis"]).all()


TIMESTAMPS = st.integers(-(2**63), 2**63 - 1) | st.just(1_775_005_200_000)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(values=st.lists(st.binary(max_size=400), max_size=6), at_ms=TIMESTAMPS)
def test_arbitrary_bytes(kind: int, values: list[bytes], at_ms: int) -> None:
    decoded = decode_batch(kind, values)
    assert len(decoded.observations) + len(decoded.rejects) + len(decoded.discards) == len(values)
    check(kind, values, shared(kind).reduce(values, np.full(len(values), at_ms)))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(value=JSON_VALUES.map(json.dumps).map(str.encode), at_ms=TIMESTAMPS)
def test_arbitrary_json(kind: int, value: bytes, at_ms: int) -> None:
    check(kind, [value], shared(kind).reduce([value], np.array([at_ms])))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_messages_among_good_ones(kind: int, data: st.DataObject) -> None:
    """The good neighbours come through, byte for byte, unless the batch's clock refuses them."""
    bad = data.draw(st.lists(mutated(kind), min_size=1, max_size=4))
    good = [template(kind, k) for k in range(2)]
    values = [good[0][0], *bad, good[1][0]]
    stamps = [good[0][1], *(data.draw(TIMESTAMPS) for _ in bad), good[1][1]]
    batch = shared(kind).reduce(values, np.array(stamps))
    check(kind, values, batch)
    clean = shared(kind).reduce([raw for raw, _ in good], np.array([at for _, at in good]))
    at = batch.index.tolist()
    kept = batch.rows[[at.index(0), at.index(len(values) - 1)]]
    assert kept.tobytes() == clean.rows.tobytes()
    for k, value in enumerate(values):
        alone = shared(kind).reduce([value], np.array(stamps[k : k + 1]))
        assert alone.rows.tobytes() == batch.rows[batch.index == k].tobytes()
        assert [r._replace(index=k) for r in alone.rejects] == [
            r for r in batch.rejects if r.index == k
        ]
