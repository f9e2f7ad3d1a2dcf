"""The encounter schedule against published facts and slow searches; the geometry of an approach."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sgp4.api import WGS84, Satrec

from sda_pipeline.astro import encounter
from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.astro.elements import Element
from sda_pipeline.astro.encounter import (
    NodeCache,
    PaneSchedule,
    Scheduled,
    alert_id,
    closest_approach,
    joint_position_covariance,
    rel_pos_rtn,
    rtn_covariance21,
    schedule_pane,
)
from sda_pipeline.astro.fusion import transition, unpack21
from sda_pipeline.astro.reference import rtn_axes
from sda_pipeline.limits import PANE_NS
from sda_pipeline.settings import Physics
from tests.unit.encounter_rig import engineered, minima
from tests.unit.orbit_rig import EPOCH_NS, mixed_catalogue, tle

IRIDIUM_COSMOS = """\
1 24946U 97051C   09040.78448243 +.00000153 +00000-0 +47668-4 0  9994
2 24946 086.3994 121.7028 0002288 085.1644 274.9812 14.34219863597336
1 22675U 93036A   09040.49834364 -.00000001  00000-0  95251-5 0  9996
2 22675 074.0355 019.4646 0016027 098.7014 261.5952 14.31135643817415
"""
COLLISION_NS = int(datetime(2009, 2, 10, 16, 55, 59, tzinfo=UTC).timestamp()) * 10**9 + 795_800_000
FIRST_PANE = EPOCH_NS // PANE_NS
PANES = 24  # two minutes


def schedule(catalogue: Catalogue, physics: Physics | None = None) -> list[PaneSchedule]:
    nodes = NodeCache(catalogue)
    return [
        schedule_pane(catalogue, FIRST_PANE + k, physics or Physics(), nodes) for k in range(PANES)
    ]


def names(panes: list[PaneSchedule]) -> list[tuple[int, int, int, str, bytes]]:
    """Everything about the encounters that does not depend on who else is in the catalogue."""
    return [
        (e.low, e.high, e.tca_ns, e.alert_id, np.concatenate((e.r1, e.v1, e.r2, e.v2)).tobytes())
        for pane in panes
        for e in pane.encounters
    ]


def the_collision(catalogue: Catalogue) -> Scheduled:
    panes = [COLLISION_NS // PANE_NS + k for k in range(-6, 7)]
    found = [e for pane in panes for e in schedule_pane(catalogue, pane, Physics()).encounters]
    assert len(found) == 1
    return found[0]


def test_iridium_33_meets_cosmos_2251() -> None:
    event = the_collision(parse_catalogue(IRIDIUM_COSMOS, "tle"))
    assert (event.low, event.high, event.low_index, event.high_index) == (22675, 24946, 0, 1)
    assert abs(event.tca_ns - COLLISION_NS) <= 500_000
    assert np.linalg.norm(event.r2 - event.r1) == pytest.approx(698.01, abs=0.05)
    assert np.linalg.norm(event.v2 - event.v1) / 1000.0 == pytest.approx(11.64724, abs=0.00002)
    assert event.alert_id == alert_id(22675, 24946, COLLISION_NS)


def test_other_constants_would_show() -> None:
    """The control: the same elements under WGS-84 miss by about 701 m."""
    lines = IRIDIUM_COSMOS.splitlines()
    elements = [
        Element(int(a[2:7]), a[2:7], Satrec.twoline2rv(a, b, WGS84))
        for a, b in zip(lines[::2], lines[1::2], strict=True)
    ]
    event = the_collision(Catalogue(elements, []))
    assert np.linalg.norm(event.r2 - event.r1) == pytest.approx(701.0, abs=1.0)


def test_schedule_finds_what_an_all_pairs_search_finds() -> None:
    """Fine steps over positions alone, no panes, no velocities, no tree: the same encounters."""
    catalogue = parse_catalogue(engineered(), "tle")
    panes = schedule(catalogue)
    found = {(e.low_index, e.high_index): e for pane in panes for e in pane.encounters}
    searched = minima(catalogue, PANES * PANE_NS / 1e9, within_m=10_000.0)
    assert {(m.low, m.high) for m in searched if m.speed_m_s >= 25.0} == set(found)
    assert sum(m.speed_m_s < 25.0 for m in searched) == sum(pane.co_orbital for pane in panes) == 2
    assert len(found) == 8
    for m in searched:
        if m.speed_m_s < 25.0:
            continue
        event = found[m.low, m.high]
        # SGP4's velocity is not quite the derivative of its position (0.1 m/s each)
        slack_s = 1e-5 + m.miss_m * 0.2 / (m.speed_m_s * m.speed_m_s)
        assert abs((event.tca_ns - EPOCH_NS) / 1e9 - m.tca_s) < slack_s
        assert np.linalg.norm(event.r2 - event.r1) == pytest.approx(m.miss_m, abs=0.1)
        assert np.linalg.norm(event.v2 - event.v1) == pytest.approx(m.speed_m_s, rel=1e-6)


def exact_rule(catalogue: Catalogue, pane: int, physics: Physics) -> tuple[list[object], int]:
    """SPEC 5 word for word over all pairs: no tree, no filter, no numpy tricks."""
    (r0, v0), (r1, v1) = catalogue.nodes(pane), catalogue.nodes(pane + 1)
    reach = (physics.screening_km + physics.margin_km) * 1000.0
    kept: list[object] = []
    co_orbital = 0
    for i in range(catalogue.n):
        starts = np.sum((r0 - r0[i]) * (v0 - v0[i]), axis=1)
        ends = np.sum((r1 - r1[i]) * (v1 - v1[i]), axis=1)
        for j in np.flatnonzero((starts < 0) & (ends >= 0)).tolist():
            if j <= i:
                continue
            low, high = pane * PANE_NS, (pane + 1) * PANE_NS
            while high - low > 1000:
                middle = (low + high) // 2
                a, b = catalogue.state_at(i, middle), catalogue.state_at(j, middle)
                negative = float((b[0] - a[0]) @ (b[1] - a[1])) < 0
                low, high = (middle, high) if negative else (low, middle)
            a, b = catalogue.state_at(i, high), catalogue.state_at(j, high)
            if np.linalg.norm(b[0] - a[0]) <= reach:
                if np.linalg.norm(b[1] - a[1]) < physics.co_orbital_m_s:
                    co_orbital += 1
                else:
                    kept.append((high, int(catalogue.satno[i]), int(catalogue.satno[j])))
    return sorted(kept), co_orbital  # type: ignore[type-var]


def shell(count: int) -> str:
    """Objects of one thin shell, and one in twenty on an ellipse that crosses it at 10 km/s."""
    rng = np.random.default_rng(8)
    lines = []
    for n in range(count):
        rate, eccentricity = rng.uniform(14.9, 15.0), 0.0005
        if n % 20 == 0:
            rate, eccentricity = 2.3, 0.72
        angles = (rng.uniform(0.1, 3.0), *rng.uniform(0, 6.2, 3))
        if n % 20 == 0:
            angles = (*angles[:3], 6.28 * (n % 3 == 0))
        lines.append(tle(5000 + n, rev_per_day=rate, eccentricity=eccentricity, angles=angles))
    return "\n".join(lines)


@pytest.mark.parametrize("straight_m", [encounter.STRAIGHT_M, -60_000.0])
def test_tree_and_filter_drop_no_keeper(straight_m: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Screening at 300 km, so a dozen and more a pane: the result is exactly the rule's.

    The control: bounds drawn too tight lose some.
    """
    monkeypatch.setattr(encounter, "STRAIGHT_M", straight_m)
    catalogue = parse_catalogue(shell(900), "tle")
    assert catalogue.n == 900
    physics, total, lost = Physics(screening_km=300.0), 0, 0
    for pane in (FIRST_PANE + 1, FIRST_PANE + 30, FIRST_PANE + 100):
        expected, co_orbital = exact_rule(catalogue, pane, physics)
        result = schedule_pane(catalogue, pane, physics)
        assert result.co_orbital == co_orbital
        kept = [(e.tca_ns, e.low, e.high) for e in result.encounters]
        assert kept == [one for one in expected if one in kept]  # in order, nothing new
        total, lost = total + len(expected), lost + len(expected) - len(kept)
    assert total > 30
    assert (lost > 0) == (straight_m < 0)


def test_velocity_is_nearly_the_derivative_of_position() -> None:
    """What the candidates' bound rests on: under 1 m/s each, near Earth and in deep space."""
    catalogue, h = mixed_catalogue(), 10**9
    for i in range(catalogue.n):
        for t in range(EPOCH_NS, EPOCH_NS + 7200 * h, 600 * h):
            at = {k: catalogue.state_at(i, t + k * h) for k in (-2, -1, 0, 1, 2)}
            slope = (8.0 * (at[1][0] - at[-1][0]) - (at[2][0] - at[-2][0])) / 12.0
            assert np.linalg.norm(slope - at[0][1]) < 1.0


def test_other_objects_change_nothing() -> None:
    text = engineered()
    alone = names(schedule(parse_catalogue(text, "tle")))
    crowd = parse_catalogue(text + "\n" + shell(300), "tle")
    among = [name for name in names(schedule(crowd)) if name[0] < 5000 and name[1] < 5000]
    assert among == alone
    assert len(alone) == 8


def test_recomputed_is_identical() -> None:
    catalogue = parse_catalogue(engineered(), "tle")
    in_order = schedule(catalogue)
    backwards = [
        schedule_pane(catalogue, FIRST_PANE + k, Physics()) for k in reversed(range(PANES))
    ]
    assert names(in_order) == names(backwards[::-1])
    fresh = parse_catalogue(engineered(), "tle")
    assert names(in_order) == names(schedule(fresh))


def test_one_new_array_call_a_pane() -> None:
    catalogue, calls = mixed_catalogue(), []

    class Counting(Catalogue):
        def nodes(self, pane: int) -> tuple[np.ndarray, np.ndarray]:
            calls.append(pane)
            return super().nodes(pane)

    counting = Counting([], [])
    counting.__dict__.update(catalogue.__dict__)
    nodes = NodeCache(counting)
    for pane in range(FIRST_PANE, FIRST_PANE + 5):
        schedule_pane(counting, pane, Physics(), nodes)
    assert calls == list(range(FIRST_PANE, FIRST_PANE + 6))


def test_objects_without_a_state_are_left_out() -> None:
    catalogue = parse_catalogue(engineered(), "tle")
    expected = names(schedule(catalogue))
    broken = catalogue.index(np.array([101]))[0]

    class Failing(Catalogue):
        def nodes(self, pane: int) -> tuple[np.ndarray, np.ndarray]:
            r, v = (part.copy() for part in super().nodes(pane))
            r[broken], v[broken] = np.nan, np.nan
            return r, v

    failing = Failing([], [])
    failing.__dict__.update(catalogue.__dict__)
    assert names(schedule(failing)) == [name for name in expected if 101 not in name[:2]]
    lonely = parse_catalogue(tle(7), "tle")
    assert schedule_pane(lonely, FIRST_PANE, Physics()) == PaneSchedule([], 0)


def test_alert_id_names_the_pair_and_the_minute() -> None:
    minute = 60 * 10**9
    name = alert_id(22675, 24946, COLLISION_NS)
    assert name == "be70f48f8892a4fc0e72ddf07c8ffa6a"
    slot = (COLLISION_NS + minute // 2) // minute * minute
    assert alert_id(22675, 24946, slot - minute // 2) == name
    assert alert_id(22675, 24946, slot + minute // 2 - 1) == name
    others = [(22675, 24946, slot + minute // 2), (22675, 24946, slot - minute // 2 - 1)]
    others += [(24946, 22675, COLLISION_NS), (22675, 24947, COLLISION_NS)]
    assert len({name, *(alert_id(*other) for other in others)}) == 5


@given(st.integers(0, 2**32 - 1))
def test_closest_approach_is_the_nearest_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dr, dv = rng.normal(size=(5, 3)) * 5000.0, rng.normal(size=(5, 3)) * 1000.0
    result = closest_approach(dr, dv)
    for shift in (-1e-3, 1e-3):
        moved = dr + dv * (result.t_star + shift)[:, None]
        assert np.all(np.linalg.norm(moved, axis=1) > result.miss)
    assert np.allclose(np.sum(result.dr * dv, axis=1), 0.0, atol=1e-3)
    assert np.allclose(result.miss, np.linalg.norm(result.dr, axis=1))
    assert np.allclose(result.speed, np.linalg.norm(dv, axis=1))
    alone = [closest_approach(dr[k : k + 1], dv[k : k + 1]) for k in range(5)]
    for field, whole in zip(zip(*alone, strict=True), result, strict=True):
        assert np.concatenate(field).tobytes() == whole.tobytes()


def test_without_relative_motion_nothing_approaches() -> None:
    result = closest_approach(np.array([[3.0, 0.0, 4.0]]), np.zeros((1, 3)))
    assert (result.t_star[0], result.miss[0], result.speed[0]) == (0.0, 5.0, 0.0)


def test_covariances_are_carried_and_turned() -> None:
    rng = np.random.default_rng(9)
    root = rng.normal(size=(2, 6, 6, 6))
    cov1, cov2 = root @ root.transpose(0, 1, 3, 2)
    dt = rng.uniform(-30, 30, 6)
    phi = transition(dt)
    dense = phi @ (cov1 + cov2) @ phi.transpose(0, 2, 1)
    joint = joint_position_covariance(cov1, cov2, dt)
    assert np.allclose(joint, dense[:, :3, :3], rtol=1e-12)

    r, v = (part[:6] for part in mixed_catalogue().nodes(FIRST_PANE))
    axes, turn = rtn_axes(r, v), np.zeros((6, 6, 6))
    turn[:, :3, :3] = turn[:, 3:, 3:] = axes
    packed = rtn_covariance21(cov1, r, v)
    assert np.allclose(unpack21(packed), turn.transpose(0, 2, 1) @ cov1 @ turn, rtol=1e-12)
    one = slice(2, 3)
    assert rtn_covariance21(cov1[one], r[one], v[one]).tobytes() == packed[one].tobytes()
    alone = joint_position_covariance(cov1[one], cov2[one], dt[one])
    assert alone.tobytes() == joint[one].tobytes()


def test_relative_position_in_rtn() -> None:
    r, v = np.array([[7e6, 0.0, 0.0]]), np.array([[0.0, 0.0, 7500.0]])
    assert rel_pos_rtn(r, v, np.array([[1.0, 2.0, 3.0]])).tolist() == [[1.0, 3.0, -2.0]]
