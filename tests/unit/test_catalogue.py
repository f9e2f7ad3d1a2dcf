"""The catalogue: SGP4 against its published verification set, lookups, priors, the hash."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from sda_pipeline.astro.catalogue import (
    configuration_hash,
    julian,
    parse_catalogue,
    prior_sigma,
)
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import PANE_NS
from sda_pipeline.settings import Physics, Prior
from tests.unit.orbit_rig import (
    CBERS2,
    EPOCH_NS,
    Published,
    epoch_ns,
    mixed_catalogue,
    tle,
    verification_set,
)

REFUSED_BY_SGP4 = 33334  # made to fail at its epoch

# --- SGP4 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", verification_set(), ids=lambda case: f"{case.satno}-{case.ephemeris[-1][0]:.0f}"
)
def test_sgp4_verification_set(case: Published) -> None:
    if case.satno == REFUSED_BY_SGP4:
        with pytest.raises(InvalidConfiguration, match="SGP4 error"):
            parse_catalogue("\n".join(case.lines), "tle")
        return
    catalogue = parse_catalogue("\n".join(case.lines), "tle")
    assert catalogue.satno.tolist() == [case.satno]
    epoch = epoch_ns(catalogue.satrecs[0])
    for minutes, *state in case.ephemeris:
        r, v = catalogue.state_at(0, epoch + round(Fraction(minutes) * 60 * 10**9))
        # 2e-7 km: the tolerance the package itself holds the printed figures to
        assert np.allclose(r, np.array(state[:3]) * 1e3, rtol=0.0, atol=2e-4)
        assert np.allclose(v, np.array(state[3:]) * 1e3, rtol=0.0, atol=2e-4)


def test_the_verification_set_is_there() -> None:
    assert len(verification_set()) == 33
    assert sum(len(case.ephemeris) for case in verification_set()) == 667


def test_nodes_equal_the_scalar_states_bit_for_bit() -> None:
    catalogue = mixed_catalogue()
    for pane in (EPOCH_NS // PANE_NS, EPOCH_NS // PANE_NS + 54_321, 0):
        r, v = catalogue.nodes(pane)
        assert r.shape == v.shape == (catalogue.n, 3)
        for index in range(catalogue.n):
            one_r, one_v = catalogue.state_at(index, pane * PANE_NS)
            assert np.array_equal(r[index], one_r, equal_nan=True)
            assert np.array_equal(v[index], one_v, equal_nan=True)


def test_states_are_nan_where_sgp4_fails_and_only_there() -> None:
    sinking = next(case for case in verification_set() if case.satno == 28872)  # gone in 50 min
    lines = [*sinking.lines, *CBERS2]
    catalogue = parse_catalogue("\n".join(lines), "tle")
    assert catalogue.satno.tolist() == [28057, 28872]
    t = epoch_ns(catalogue.satrecs[1])
    assert np.isfinite(catalogue.nodes(t // PANE_NS)[0]).all()
    late = (t + 55 * 60 * 10**9) // PANE_NS
    r, v = catalogue.nodes(late)
    assert np.isfinite(r[0]).all()
    assert np.isnan(r[1]).all()
    assert np.isnan(v[1]).all()
    assert np.isnan(catalogue.state_at(1, late * PANE_NS)).all()


@pytest.mark.parametrize("t_ns", [0, -1, 1, EPOCH_NS, EPOCH_NS + 86_399_999_999_999, 4 * 10**18])
def test_the_julian_date_keeps_a_nanosecond(t_ns: int) -> None:
    jd, fraction = julian(t_ns)
    assert jd % 1.0 == 0.5
    exact = Fraction(4_881_175, 2) + Fraction(t_ns, 86_400 * 10**9)
    error_s = (Fraction(jd) + Fraction(fraction) - exact) * 86_400
    assert abs(error_s) < Fraction(1, 10**10)


# --- lookups, priors, hash ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.int32])
def test_index(dtype: type) -> None:
    catalogue = mixed_catalogue()
    assert np.all(np.diff(catalogue.satno.astype(np.int64)) > 0)
    assert np.array_equal(catalogue.index(catalogue.satno.astype(dtype)), np.arange(catalogue.n))
    unknown = np.array([0, 1, 6, 2**31 - 1], dtype)
    assert catalogue.index(unknown).tolist() == [-1] * 4
    assert catalogue.index(unknown[:0]).shape == (0,)


def test_prior_by_class() -> None:
    catalogue = mixed_catalogue()
    sigma = prior_sigma(catalogue, Physics())
    assert np.array_equal(sigma[catalogue.leo][0], [176, 695, 168, 0.6, 0.2, 0.2])
    assert np.array_equal(sigma[~catalogue.leo][0], [500, 2000, 500, 0.3, 0.3, 0.3])
    everything_deep = prior_sigma(catalogue, Physics(leo_min_rev_per_day=100.0))
    assert np.array_equal(everything_deep, np.tile(sigma[~catalogue.leo][0], (catalogue.n, 1)))


def test_the_hash_covers_everything_and_nothing_else() -> None:
    base = configuration_hash(b"catalogue", b"sensors", Physics())
    assert 0 <= base < 2**64
    assert base == configuration_hash(b"catalogue", b"sensors", Physics(hbr_m=20))
    changed = {
        configuration_hash(b"catalogues", b"ensors", Physics()),
        configuration_hash(b"catalogue", b"sensor", Physics()),
        configuration_hash(b"", b"cataloguesensors", Physics()),
    }
    for field in dataclasses.fields(Physics):
        value = getattr(Physics(), field.name)
        other = Prior((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)) if isinstance(value, Prior) else 77.0
        changed.add(
            configuration_hash(
                b"catalogue", b"sensors", dataclasses.replace(Physics(), **{field.name: other})
            )
        )
    assert base not in changed
    assert len(changed) == 3 + len(dataclasses.fields(Physics))


def test_objects_are_in_satno_order_whatever_the_file_says() -> None:
    text = "\n".join(tle(satno, rev_per_day=12.0 + satno / 100) for satno in (70, 9, 300))
    catalogue = parse_catalogue(text, "tle")
    assert catalogue.satno.tolist() == [9, 70, 300]
    assert catalogue.names == ["9", "70", "300"]
    assert np.allclose(catalogue.mean_motion, [12.09, 12.7, 15.0])
