"""What a demo says of an effect: words, figures, sums; and the reading of the ledger behind it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import format_time
from sda_pipeline.state.alert_state import Action, State, Stored
from sda_pipeline.state.subscriber_store import SubscriberStore, read_news
from sda_pipeline.vocabulary import Effect
from supervisor.demo_news import (
    LINES_KEPT,
    Alerts,
    Line,
    changes_text,
    countdown,
    levels_text,
    miss_text,
    pc_text,
    plain_line,
)
from tests.unit.alert_rig import T0, at, insert, retract

TCA = T0 + 30 * SECOND_NS


def act(
    n: int, effect: Effect, level: str | None = None, alert: str = "a1", *, final: bool = False
) -> Action:
    return Action(alert, at(n), effect, level, final, at(n), T0 + n, None)


def record(n: int, level: str = "RED", alert: str = "a1", miss_m: float = 80.0) -> bytes:
    figures = {"tca": format_time(TCA), "miss_m": miss_m, "pc": 2e-3}
    return orjson.dumps({**insert(alert, at(n), level), **figures})


def test_a_life_of_an_alert_in_words() -> None:
    alerts = Alerts()
    steps = [
        (act(1, Effect.RAISE, "YELLOW"), record(1, "YELLOW")),
        (act(3, Effect.CHANGE, "RED"), record(3)),
        (act(5, Effect.CHANGE, "YELLOW"), record(5, "YELLOW")),
        (act(6, Effect.WITHDRAW), orjson.dumps(retract("a1", at(6)))),
        (act(7, Effect.REINSTATE, "RED"), record(7)),
        (act(8, Effect.CONFIRM, "RED", final=True), record(8)),
    ]
    said = [alerts.take(action, body) for action, body in steps]
    assert [line.change for line in said] == [
        "raised", "upgraded", "lowered", "withdrawn", "raised again", "confirmed final",
    ]  # fmt: skip
    assert [line.level for line in said] == ["YELLOW", "RED", "YELLOW", None, "RED", "RED"]
    assert {(line.pair, line.tca_ns, line.miss_m) for line in said} == {("1-2", TCA, 80.0)}
    assert levels_text(alerts) == "1 RED, 0 YELLOW, 0 withdrawn"
    assert changes_text(alerts) == (
        "1 raised, 1 upgraded, 1 confirmed, 1 withdrawn, 1 raised again, 1 lowered, 1 final"
    )


def test_a_change_is_judged_against_the_level_of_an_earlier_run() -> None:
    alerts = Alerts()
    alerts.remember(act(1, Effect.RAISE, "RED"))
    assert alerts.take(act(3, Effect.CHANGE, "YELLOW"), record(3, "YELLOW")).change == "lowered"
    assert changes_text(alerts) == "1 lowered"


def test_figures_of_a_newer_record_are_not_passed_off_as_the_effects_own() -> None:
    line = Alerts().take(act(1, Effect.RAISE, "YELLOW"), record(3, miss_m=5.0))
    assert (line.pair, line.tca_ns, line.miss_m, line.pc) == ("1-2", TCA, None, None)


def test_an_alert_nothing_is_known_of_still_has_its_line() -> None:
    line = Alerts().take(act(1, Effect.WITHDRAW), b"")
    assert (line.pair, line.tca_ns, line.miss_m) == ("?", None, None)
    assert "withdrawn" in plain_line(line)


def test_newest_first_and_one_line_an_alert() -> None:
    alerts = Alerts()
    for n, alert in enumerate(("a1", "a2", "a1", "a3"), 1):
        effect = Effect.CHANGE if n == 3 else Effect.RAISE
        alerts.take(act(n, effect, "RED", alert), record(n, alert=alert))
    assert [line.alert_id for line in alerts.newest(9)] == ["a3", "a1", "a2"]
    assert [line.alert_id for line in alerts.newest(1)] == ["a3"]
    assert alerts.newest(0) == []


def test_memory_is_bounded() -> None:
    alerts = Alerts()
    for n in range(1, LINES_KEPT + 50):
        alerts.take(act(n, Effect.RAISE, "RED", f"a{n}"), b"")
    assert len(alerts.newest(10**6)) == LINES_KEPT


def test_the_last_minute() -> None:
    alerts = Alerts()
    alerts.take(act(1, Effect.RAISE, "RED"), b"")
    assert alerts.in_last_minute(T0 + SECOND_NS) == 1
    assert alerts.in_last_minute(T0 + 61 * SECOND_NS) == 0


def test_a_plain_line_has_stable_columns() -> None:
    raised = Alerts().take(act(1, Effect.RAISE, "RED"), record(1))
    nothing = Line(T0, "a2", "70001-70002", None, "withdrawn final", None, None, None, final=True)
    assert plain_line(raised) == (
        "2023-11-14T22:13:20.000Z  1-2           RED     raised            "
        "TCA 22:13:50.000  miss     80 m  Pc 2.00e-03"
    )
    assert len(plain_line(nothing)) == len(plain_line(raised))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "in 0:12"), (0, "in 0:00"), (-5, "0:05 ago"), (-605, "10:05 ago"), (3723, "in 1:02:03")],
)
def test_countdown(seconds: int, text: str) -> None:
    assert countdown(TCA, TCA - seconds * SECOND_NS) == text


def test_figures_as_text() -> None:
    assert [miss_text(m) for m in (None, 4.6, 9999.0, 12_345.0)] == [
        "-",
        "5 m",
        "9999 m",
        "12.3 km",
    ]
    assert [pc_text(pc) for pc in (None, 0.0, 1e-150, 1.234e-4)] == ["-", "0", "0", "1.23e-04"]


def test_news_are_the_ledger_with_the_newest_record_of_each_alert(tmp_path: Path) -> None:
    path = tmp_path / "subscriber.sqlite"
    assert read_news(path) == []
    raised, other = act(1, Effect.RAISE, "RED"), act(2, Effect.RAISE, "RED", "a2")
    with SubscriberStore(path) as store:
        with store.transaction():
            for action in (raised, other):
                store.act(action)
            store.put("a1", Stored(State.ACTIVE, at(1), "RED", False, T0), b"{}")
            store.position = at(2)
        assert read_news(path) == [(raised, b"{}"), (other, b"")]
        assert read_news(path, after=1) == [(other, b"")]
