"""x(t) against SGP4, against the plain formula, and against itself in other batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.astro.catalogue import Catalogue, parse_catalogue
from sda_pipeline.astro.columns import F8, I8
from sda_pipeline.astro.trajectory import FULL_SHARE, PANES_KEPT, Trajectory
from sda_pipeline.limits import PANE_NS
from tests.unit.orbit_rig import CBERS2, EPOCH_NS, epoch_ns, mixed_catalogue, verification_set

DAY_NS = 86_400 * 10**9
times = st.integers(EPOCH_NS - DAY_NS, EPOCH_NS + DAY_NS)


def plain(catalogue: Catalogue, index: int, t_ns: int) -> list[float]:
    """SPEC 2 in plain Python, one coordinate after the other."""
    k = t_ns // PANE_NS
    nodes = [catalogue.state_at(index, (k + n) * PANE_NS) for n in (-1, 0, 1, 2)]
    s = (t_ns - k * PANE_NS) / PANE_NS
    weights = (
        -s * (s - 1) * (s - 2) / 6,
        (s + 1) * (s - 1) * (s - 2) / 2,
        -(s + 1) * s * (s - 2) / 2,
        (s + 1) * s * (s - 1) / 6,
    )
    state = []
    for n in range(6):
        total = weights[0] * float(nodes[0][n // 3][n % 3])
        for weight, node in zip(weights[1:], nodes[1:], strict=True):
            total += weight * float(node[n // 3][n % 3])
        state.append(total)
    return state


@given(t=times, index=st.integers(0, 59))
@settings(max_examples=150)
def test_within_a_millimetre_of_sgp4(t: int, index: int) -> None:
    catalogue = mixed_catalogue()
    r, v = Trajectory(catalogue).states(np.array([index]), np.array([t]))
    exact_r, exact_v = catalogue.state_at(index, t)
    assert np.linalg.norm(r[0] - exact_r) < 1e-3
    assert np.linalg.norm(v[0] - exact_v) < 1e-5


def test_it_is_sgp4_at_the_nodes() -> None:
    catalogue = mixed_catalogue()
    t = EPOCH_NS // PANE_NS * PANE_NS
    index = np.arange(catalogue.n)
    r, v = Trajectory(catalogue).states(index, np.full(catalogue.n, t))
    exact_r, exact_v = catalogue.nodes(t // PANE_NS)
    assert np.array_equal(r, exact_r)
    assert np.array_equal(v, exact_v)


@st.composite
def requests(draw: st.DrawFn) -> tuple[I8, I8]:
    """Batches as streams bring them: a few panes, now and then many; some unknown objects."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 70))
    span = draw(st.sampled_from([10**8, 4 * PANE_NS, DAY_NS]))
    return rng.integers(-1, 60, count), EPOCH_NS + rng.integers(0, span, count)


@given(request=requests())
@settings(max_examples=60)
def test_a_batch_equals_the_plain_formula_bit_for_bit(request: tuple[I8, I8]) -> None:
    catalogue = mixed_catalogue()
    index, t = request
    r, v = Trajectory(catalogue).states(index, t)
    assert r.shape == v.shape == (len(t), 3)
    for n, (i, at) in enumerate(zip(index.tolist(), t.tolist(), strict=True)):
        expected = [np.nan] * 6 if i < 0 else plain(catalogue, i, at)
        assert np.array_equal([*r[n], *v[n]], expected, equal_nan=True)


@given(request=requests(), warm=requests(), cut=st.integers(1, 30))
@settings(max_examples=60)
def test_neither_cuts_nor_what_was_asked_before_change_a_bit(
    request: tuple[I8, I8], warm: tuple[I8, I8], cut: int
) -> None:
    index, t = request
    whole = np.hstack(Trajectory(mixed_catalogue()).states(index, t))
    used = Trajectory(mixed_catalogue())
    used.states(*warm)
    used.states(np.arange(60), np.full(60, t[0]))
    parts: list[F8] = [
        np.hstack(used.states(index[n : n + cut], t[n : n + cut])) for n in range(0, len(t), cut)
    ]
    assert np.array_equal(np.vstack(parts), whole, equal_nan=True)


def test_no_trajectory_is_nan_and_spoils_no_other() -> None:
    sinking = next(case for case in verification_set() if case.satno == 28872)
    catalogue = parse_catalogue("\n".join([*sinking.lines, *CBERS2]), "tle")
    gone = epoch_ns(catalogue.satrecs[1]) + 55 * 60 * 10**9
    index = np.array([0, 1, -1, 0])
    r, v = Trajectory(catalogue).states(index, np.full(4, gone))
    for state in (r, v):
        assert np.isfinite(state).all(axis=1).tolist() == [True, False, False, True]
        assert np.isnan(state[1:3]).all()


def test_an_empty_batch() -> None:
    none = np.empty(0, np.int64)
    r, v = Trajectory(mixed_catalogue()).states(none, none)
    assert r.shape == v.shape == (0, 3)


class Counting:
    """How often SGP4 was run for the whole catalogue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.panes: list[int] = []
        original = Catalogue.nodes

        def nodes(catalogue: Catalogue, pane: int) -> tuple[F8, F8]:
            self.panes.append(pane)
            return original(catalogue, pane)

        monkeypatch.setattr(Catalogue, "nodes", nodes)


def test_full_nodes_are_computed_once_and_only_for_panes_much_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting(monkeypatch)
    trajectory = Trajectory(mixed_catalogue())
    busy = -(-60 // FULL_SHARE)  # rows that make a pane worth it
    first = EPOCH_NS // PANE_NS
    for n in range(500):  # one row in each of many panes
        trajectory.states(np.array([n % 60]), np.array([(first + 10 * n) * PANE_NS + 7]))
    assert counting.panes == []
    index, t = np.arange(busy), np.full(busy, first * PANE_NS + 9)
    for _ in range(3):
        trajectory.states(index, t)
    assert counting.panes == [first - 1, first, first + 1, first + 2]
    trajectory.states(index, t + PANE_NS)
    assert counting.panes[4:] == [first + 3]


def test_the_cache_is_bounded() -> None:
    trajectory = Trajectory(mixed_catalogue())
    for n in range(3 * PANES_KEPT):
        trajectory.states(np.arange(60), np.full(60, EPOCH_NS + n * PANE_NS))
    assert len(trajectory._nodes) == PANES_KEPT
