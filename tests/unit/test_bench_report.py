"""The pure parts of the benchmark: percentiles, verdicts, latencies, tables, its JSON."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.state.alert_state import Action
from sda_pipeline.vocabulary import Effect
from tests.bench import bench_report
from tests.bench.bench_figures import (
    Figure,
    alert_latencies_ms,
    percentile,
    rate,
    spread,
    worst_pauses_ms,
)
from tests.bench.bench_remote import NO_REMOTE, remote_figures

MS = 1_000_000


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50.0, None),
        ([3.0], 99.0, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50.0, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 99.0, 4.0),
        ([float(k) for k in range(1, 101)], 99.0, 99.0),
        ([float(k) for k in range(1, 201)], 99.0, 198.0),
        ([2.0, 1.0], 0.0, 1.0),
    ],
)
def test_percentile_is_a_value_that_occurred(
    values: list[float], percent: float, expected: float | None
) -> None:
    assert percentile(values, percent) == expected


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.floats(0.5, 100.0))
def test_percentile_by_counting(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found is not None
    at_most = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    wanted = math.ceil(percent / 100.0 * len(values))
    assert below < wanted <= at_most, "the smallest value that covers the share"


@pytest.mark.parametrize(
    ("figure", "verdict", "bar"),
    [
        (Figure("a", 2.0, "s", at_most=2.0), "ok", "<= 2"),
        (Figure("a", 2.1, "s", at_most=2.0), "below", "<= 2"),
        (Figure("a", 100_000.0, "obs/s", at_least=100_000.0), "ok", ">= 100,000"),
        (Figure("a", 99_999.0, "obs/s", at_least=100_000.0), "below", ">= 100,000"),
        (Figure("a", None, "s", at_most=2.0), "-", "<= 2"),
        (Figure("a", 1.0, "s"), "", ""),
    ],
)
def test_verdict_is_about_the_bar(figure: Figure, verdict: str, bar: str) -> None:
    assert (figure.verdict, figure.bar) == (verdict, bar)


def test_spread_and_rate_of_nothing() -> None:
    assert spread([]) == {"count": 0, "p50": None, "p99": None, "max": None}
    assert spread([1.0, 2.0]) == {"count": 2, "p50": 1.0, "p99": 2.0, "max": 2.0}
    assert rate(10, 5, 5) is None
    assert rate(10, 0, 500 * MS) == 20.0


def action(
    alert: str, effect: Effect, level: str | None, at_ms: int, ingest_ms: int | None
) -> Action:
    return Action(
        alert, at_ms, effect, level, False, 1, at_ms * MS,
        None if ingest_ms is None else ingest_ms * MS,
    )  # fmt: skip


def test_latency_counts_raises_and_upgrades_only() -> None:
    actions = [
        action("a", Effect.RAISE, "YELLOW", 110, 100),
        action("a", Effect.CHANGE, "RED", 230, 200),  # an upgrade
        action("a", Effect.CHANGE, "YELLOW", 9_000, 200),  # waited for event time
        action("a", Effect.CONFIRM, "YELLOW", 9_100, 200),
        action("b", Effect.RAISE, "RED", 340, 300),
        action("b", Effect.WITHDRAW, None, 400, None),
        action("b", Effect.REINSTATE, "RED", 500, 450),
        action("c", Effect.RAISE, "RED", 20_001, 20_000),  # after the span
        action("d", Effect.RAISE, "RED", 600, 500)._replace(final=True),
    ]
    assert alert_latencies_ms(actions, 0, 20_000 * MS) == [10.0, 30.0, 40.0]


def test_pauses_of_several_summaries_are_their_worst() -> None:
    events = [
        {
            "event": "checkpoints",
            "ts_ns": at,
            "count": 10,
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": 9,
        }
        for at, p50, p99 in ((1, 50.0, 60.0), (10, 1.0, 4.0), (20, 2.0, 3.0), (31, 70.0, 80.0))
    ]
    found = worst_pauses_ms([*events, {"event": "ready", "ts_ns": 15}], 5, 30)
    assert found == {"count": 20, "summaries": 2, "p50": 2.0, "p99": 4.0, "max": 9}
    assert worst_pauses_ms([], 0, 1)["p99"] is None


def test_figures_stand_next_to_their_bars() -> None:
    text = bench_report.figures_table(
        [
            Figure(
                "throughput", 123_456.7, "obs/s", at_least=100_000.0, note="600,000 observations"
            ),
            Figure("nothing", None, "ms", at_most=250.0),
        ]
    )
    rows = [line.split() for line in text.splitlines()]
    assert rows[2][:6] == ["throughput", "123,457", "obs/s", ">=", "100,000", "ok"]
    assert rows[2][6:] == ["600,000", "observations"]
    assert rows[3] == ["nothing", "-", "ms", "<=", "250.0", "-"]
    assert all(line == line.rstrip() for line in text.splitlines())


def test_operators_table_leaves_out_what_was_not_measured() -> None:
    rows = {"radar": {"cpu_us_per_observation": 4.25}, "isl": {"cpu_us_per_observation": 1.5}}
    text = bench_report.operators_table(rows)
    assert "us CPU/obs" in text
    assert "restart" not in text
    assert [line.split() for line in text.splitlines()][2:] == [["radar", "4.25"], ["isl", "1.5"]]


def test_document_can_be_read_by_a_program() -> None:
    figures = [Figure("a", 1.0, "s", at_most=2.0, note="n"), Figure("b", None, "s")]
    made = bench_report.document(
        {"cpus": 2}, {"observations": 5}, figures, {"live": {"faults": []}}
    )
    again = orjson.loads(orjson.dumps(made))
    assert set(again) == {"format", "machine", "options", "figures", "live"}
    assert again["format"] == bench_report.FORMAT
    assert again["figures"] == [
        {"name": "a", "value": 1.0, "unit": "s", "at_least": None, "at_most": 2.0, "verdict": "ok",
         "note": "n"},
        {"name": "b", "value": None, "unit": "s", "at_least": None, "at_most": None,
         "verdict": None, "note": None},
    ]  # fmt: skip


def test_commits_beside_a_store_are_compared_with_none() -> None:
    def run(p50: float | None, p99: float | None) -> dict[str, Any]:
        commits = {"count": 9, "p50": p50, "p99": p99}
        return {"commits": commits, "snapshot": 3, "uploaded": 2, "upload_failed": 1}

    details = {NO_REMOTE: run(2.0, 8.0), "slow": run(3.0, 9.0), "unseen": run(None, None)}
    found = {figure.name: figure.note for figure in remote_figures(details)}
    counts = "9 commits; 3 snapshots, 2 uploads, 1 failed"
    assert found == {
        "commit p50, no remote": counts,
        "commit p99, no remote": "",
        "commit p50, slow": f"1.5 x no remote; {counts}",
        "commit p99, slow": "1.125 x no remote",
        "commit p50, unseen": f"- x no remote; {counts}",
        "commit p99, unseen": "- x no remote",
    }
