"""From messages to rows: what a row says. Company and cuts: test_reduction_company."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest

from operators.core.pivots import DIAGONAL
from operators.core.reduction import ReducedBatch
from operators.core.validation import RANGES
from sda_pipeline.astro.catalogue import prior_sigma
from sda_pipeline.astro.fusion import unpack21
from sda_pipeline.astro.measurement import reduce_isl, reduce_radar
from sda_pipeline.astro.reference import j2000_to_teme_for, pane_of, site_teme
from sda_pipeline.astro.trajectory import Trajectory
from sda_pipeline.records.rows import uuid_text
from sda_pipeline.records.times import parse_times
from sda_pipeline.settings import ISL, OPTICAL, RADAR, Physics
from tests.unit.observation_rig import KINDS, messages, one, reducer, sensors
from tests.unit.orbit_rig import mixed_catalogue

FULL_COV = np.diag([9e-4, 4e-4, 1e-4, 1e-8, 4e-8, 2.5e-9])
FULL_COV[1, 0] = FULL_COV[0, 1] = 3e-4
FULL_COV[3, 1] = FULL_COV[1, 3] = 1e-6


def reduce_one(kind: int, fields: dict[str, Any], at_ms: int) -> ReducedBatch:
    return reducer(kind).reduce([orjson.dumps(fields)], np.array([at_ms]))


def state_of(fields: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory and prior of a message's object at its time."""
    catalogue = mixed_catalogue()
    index = catalogue.index(np.array([fields["satNo"]]))
    r, v = Trajectory(catalogue).states(index, parse_times([fields["obTime"]])[0])
    return r, v, prior_sigma(catalogue, Physics())[index]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_carry_what_the_messages_say(kind: int) -> None:
    values, at_ms = messages(kind, 300)
    batch = reducer(kind).reduce(values, at_ms)
    assert batch.rejects == batch.discarded == []
    assert batch.index.tolist() == list(range(300))
    said = [orjson.loads(value) for value in values]
    assert [uuid_text(row["id"]) for row in batch.rows] == [m["id"] for m in said]
    assert batch.rows["t"].tolist() == parse_times([m["obTime"] for m in said])[0].tolist()
    assert batch.rows["sat"].tolist() == [m["satNo"] for m in said]
    assert [sensors().ids[s] for s in batch.rows["sensor"]] == [m["idSensor"] for m in said]
    assert set(batch.rows["kind"]) == {kind}
    for name in ("flags", "offset", "partition", "ingest"):
        assert not batch.rows[name].any(), f"{name} is the shell's"
    # The truth lies on the catalogue's trajectory, the noise is what the sensors say: on average
    # NIS is at most its degrees of freedom.
    assert 0.0 < batch.rows["nis"].mean() < {RADAR: 4.0, OPTICAL: 2.0, ISL: 6.0}[kind]
    assert np.isfinite(batch.rows["info"]).all()
    assert np.linalg.eigvalsh(unpack21(batch.rows["info"]))[:, -1].min() > 0.0


def test_golden_radar_row_in_si_units() -> None:
    """One message against the reduction called by hand with metres and floored sigmas."""
    fields, at_ms = one(RADAR)
    fields |= {"azimuthUnc": 1e-9, "elevationUnc": 1e-9, "rangeUnc": 0.001, "rangeRateUnc": 1e-9}
    registry = sensors()
    s = registry.index(fields["idSensor"])
    t = parse_times([fields["obTime"]])[0]
    r, v, prior = state_of(fields)
    site = site_teme(t, *(registry.column(n)[[s]] for n in ("lat", "lon", "alt_m")), 0.0)
    wire = {"azimuth": 1.0, "elevation": 1.0, "range": 1e3, "rangeRate": 1e3}
    measured = [np.array([fields[name]]) * si for name, si in wire.items()]
    floored = [np.array([sigma]) for sigma in (1e-9, 0.001, 5.0, 0.05)]
    clock, floor = np.array([0.001]), np.radians([0.001])
    expected = reduce_radar(r, v, site, *measured, *floored, clock, prior, floor)
    (row,) = reduce_one(RADAR, fields, at_ms).rows
    assert row["info"].tolist() == expected.info[0].tolist()
    assert row["vec"].tolist() == expected.vec[0].tolist()
    assert row["nis"] == np.float32(expected.nis[0])


@pytest.mark.parametrize("frame", ["TEME", "J2000"])
def test_golden_isl_row_with_a_covariance(frame: str) -> None:
    """``cov`` is in the message's frame and turns with it; floors hold in TEME."""
    fields, at_ms = one(ISL)
    r, v, prior = state_of(fields)
    t = parse_times([fields["obTime"]])[0]
    turn = j2000_to_teme_for(pane_of(t))[0] if frame == "J2000" else np.eye(3)
    six = np.kron(np.eye(2), turn)
    state = np.array([fields[f"{axis}{q}"] for q in ("pos", "vel") for axis in "xyz"]) * 1e3
    sent = six.T @ state / 1e3
    names = [f"{axis}{q}" for q in ("pos", "vel") for axis in "xyz"]
    cov = [float(FULL_COV[i, j]) for i in range(6) for j in range(i + 1)]
    fields |= dict(zip(names, sent.tolist(), strict=True)) | {"referenceFrame": frame, "cov": cov}
    noise = six @ (FULL_COV * 1e6) @ six.T
    expected = reduce_isl(r, v, state[None], noise[None], np.array([0.001]), prior)
    (row,) = reduce_one(ISL, fields, at_ms).rows
    np.testing.assert_allclose(row["info"], expected.info[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(row["vec"], expected.vec[0], rtol=1e-6, atol=1e-3)


def test_isl_floors_and_single_uncertainties() -> None:
    """A covariance below the floors is raised to them; posUnc alone leaves velUnc to the sensor."""
    fields, at_ms = one(ISL, at=0)
    r, v, prior = state_of(fields)
    x = np.array([[fields[f"{axis}{q}"] for q in ("pos", "vel") for axis in "xyz"]]) * 1e3
    clock = np.array([0.001])

    def expected(pos_m: float, vel_m_s: float) -> np.ndarray:
        cov = np.diag([pos_m**2] * 3 + [vel_m_s**2] * 3)
        return reduce_isl(r, v, x, cov[None], clock, prior).info[0]

    def got(**own: object) -> np.ndarray:
        kept = {k: value for k, value in fields.items() if k not in {"cov", "posUnc", "velUnc"}}
        row: np.ndarray = reduce_one(ISL, kept | own, at_ms).rows["info"][0]
        return row

    tiny = [1e-12 if i == j else 0.0 for i in range(6) for j in range(i + 1)]
    np.testing.assert_allclose(got(cov=tiny), expected(1.0, 0.001), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got(posUnc=1e-9, velUnc=1e-9), expected(1.0, 0.001), rtol=1e-9)
    np.testing.assert_allclose(got(posUnc=0.2), expected(200.0, 0.1), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(got(velUnc=0.002), expected(30.0, 2.0), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(got(), expected(30.0, 0.1), rtol=1e-9, atol=1e-15)


def test_own_optical_site_overrides_the_registry() -> None:
    """A message that brings the site of its sensor says the same under another sensor's name."""
    fields, at_ms = one(OPTICAL)
    registry = sensors()
    s = registry.index(fields["idSensor"])
    lat, lon, alt_m = (float(registry.column(n)[s]) for n in ("lat", "lon", "alt_m"))
    other = next(i for i in registry.ids if i.startswith("optical") and i != fields["idSensor"])
    own = {"idSensor": other, "senlat": lat, "senlon": lon, "senalt": alt_m / 1e3}
    (expected,) = reduce_one(OPTICAL, fields, at_ms).rows
    (row,) = reduce_one(OPTICAL, fields | own, at_ms).rows
    assert row["info"].tolist() == expected["info"].tolist()
    assert row["vec"].tolist() == expected["vec"].tolist()
    assert registry.ids[row["sensor"]] == other
    elsewhere = reduce_one(OPTICAL, fields | {"idSensor": other}, at_ms)
    assert elsewhere.rejects or elsewhere.rows["vec"].tolist() != [row["vec"].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_may_state_its_own_sigmas(kind: int) -> None:
    """Each sigma of each kind, once doubled: less information. Time too."""
    fields, at_ms = one(kind, at=5)
    fields = {k: v for k, v in fields.items() if not k.endswith("Unc") and k != "cov"}
    (base,) = reduce_one(kind, fields, at_ms).rows
    for name in (limit.name for limit in RANGES[kind] if limit.is_sigma):
        large = {"timeUnc": 0.01, "rangeRateUnc": 0.001, "velUnc": 0.001}.get(name, 0.08)
        (row,) = reduce_one(kind, fields | {name: large}, at_ms).rows
        before, after = base["info"][DIAGONAL], row["info"][DIAGONAL]
        assert (after <= before * (1 + 1e-12)).all(), name
        assert (after < before * (1 - 1e-6)).any(), name


def test_nothing_to_reduce() -> None:
    for kind in KINDS:
        batch = reducer(kind).reduce([], np.zeros(0, np.int64))
        assert len(batch.rows) == len(batch.index) == 0


def test_same_id_on_two_objects_is_two_observations() -> None:
    values, at_ms = messages(RADAR, 8)
    same = str(uuid4())
    renamed = [orjson.dumps(orjson.loads(value) | {"id": same}) for value in values]
    rows = reducer(RADAR).reduce(renamed, at_ms).rows
    assert len(rows) == 8
    assert {uuid_text(row["id"]) for row in rows} == {same}


def test_forward_model_closes_the_loop() -> None:
    """Noise-free radar has no innovation: what was predicted is what is reduced."""
    values, at_ms = messages(RADAR, 8, noise=0.0)
    rows = reducer(RADAR).reduce(values, at_ms).rows
    assert rows["nis"].max() < 1e-6
