"""How a demo looks: it fits any terminal, respects NO_COLOR, and never calls a pipe a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.runtime.audit import SourceAudit
from sda_pipeline.vocabulary import Effect
from supervisor.demo_feed import with_status
from supervisor.demo_news import Alerts
from supervisor.demo_screen import LiveScreen, PlainScreen, can_redraw
from supervisor.demo_view import AROUND_TABLE, Facts, Frame, summary_lines
from tests.unit.alert_rig import T0
from tests.unit.test_demo_news import TCA, act, record

HEIGHT_MIN = AROUND_TABLE + 2  # below that the terminal shows the top of the frame
FACTS = Facts(
    state="running", ready=10, operators=10, lag=12, watermark_ns=T0 - 31 * SECOND_NS, read=83_358,
    applied=6_661, late=2, rejected=1, read_per_s=2010.4, applied_per_s=131.7,
)  # fmt: skip


def frame(alerts: int = 5, facts: Facts = FACTS, notes: int = 0) -> Frame:
    told = Alerts()
    for n in range(1, alerts + 1):
        level = ("RED", "YELLOW")[n % 2]
        told.take(act(n, Effect.RAISE, level, f"a{n}"), record(n, level, f"a{n}"))
    notes_text = [f"radar  died: killed by SIGKILL {n} " + "x" * 90 for n in range(notes)]
    return Frame("sda", told, facts, T0 + SECOND_NS, 42, "waiting", "Ctrl-C drains", notes_text)


def drawn(what: Frame, width: int = 100, height: int = 30, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=height, **options)
    console.print(what)
    return out.getvalue()


def plain(what: Frame, width: int = 100, height: int = 30) -> list[str]:
    return drawn(what, width, height, color_system=None).splitlines()


def test_what_a_wide_terminal_shows() -> None:
    lines = plain(frame())
    assert lines[0].startswith("sda running 0:42, 10 processes; Ctrl-C drains")
    assert lines[1].split() == ["pair", "level", "TCA", "change", "miss", "Pc", "since"]
    assert lines[3].split() == [
        "1-2",
        "YELLOW",
        "in",
        "0:29",
        "raised",
        "80",
        "m",
        "2.00e-03",
        "0:00",
    ]
    assert "read 2,010/s, applied 132/s, alerts 5/min, watermark 32 s behind" in lines
    assert "in all 83,358 read, 6,661 applied, 2 late, 1 rejected; 12 wait at the broker" in lines
    assert "alerts 2 RED, 3 YELLOW, 0 withdrawn; this run 5 raised" in lines


@given(
    width=st.integers(10, 200), height=st.integers(HEIGHT_MIN, 60), alerts=st.integers(0, 80),
    notes=st.integers(0, 4),
)  # fmt: skip
def test_it_fits_any_terminal(width: int, height: int, alerts: int, notes: int) -> None:
    lines = plain(frame(alerts, notes=notes), width, height)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)


def test_the_last_line_leaves_room_for_what_a_terminal_echoes() -> None:
    assert all(len(line.rstrip()) <= 57 for line in plain(frame(0, notes=2), width=60))


@pytest.mark.parametrize(
    ("width", "columns"),
    [(20, "pair"), (30, "pair level"), (40, "pair level TCA"), (51, "pair level TCA change"),
     (61, "pair level TCA change miss"), (71, "pair level TCA change miss Pc")],
)  # fmt: skip
def test_a_narrow_terminal_keeps_what_matters_most(width: int, columns: str) -> None:
    assert plain(frame(), width)[1].split() == columns.split()


def test_before_the_first_alert() -> None:
    lines = plain(frame(0, Facts(state="starting", ready=4, operators=10)))
    assert "4 of 10 processes" in lines[0]
    assert "waiting" in lines
    assert any("watermark -" in line for line in lines)


def test_levels_have_colours_unless_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    red, yellow = "\x1b[1;31m", "\x1b[33m"
    monkeypatch.delenv("NO_COLOR", raising=False)
    with_colours = drawn(frame(), color_system="standard")
    assert red in with_colours
    assert yellow in with_colours
    monkeypatch.setenv("NO_COLOR", "1")
    without = drawn(frame(), color_system="standard")
    assert not any(f"{code}m" in without for code in range(30, 38))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "environment", "redraw"),
    [(Terminal(), {"TERM": "xterm"}, True), (Terminal(), {"TERM": "dumb"}, False),
     (Terminal(), {}, False), (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"}, False)],
)  # fmt: skip
def test_a_table_only_where_it_can_be_redrawn(
    out: io.StringIO, environment: dict[str, str], redraw: bool
) -> None:
    assert can_redraw(out, environment) is redraw


def test_a_live_screen_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with LiveScreen(out) as screen:
        screen.note("radar died")
        screen.draw(frame())
        assert "\x1b[?25l" in out.getvalue()
    assert "radar died" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_progress_and_effects_do_not_mix() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = PlainScreen(out, err)
    screen.say("starting")
    screen.show(frame(2).alerts.newest(2))
    screen.draw(frame())
    assert err.getvalue() == "starting\n"
    assert len(out.getvalue().splitlines()) == 2


def test_the_summary_adds_up_and_says_so() -> None:
    radar = SourceAudit("radar", read=1300, applied=300, unpaired=990, late=10)
    isl = SourceAudit("isl", read=100, applied=90, rejected=8, in_flight=2)
    lines = summary_lines([radar, isl], frame(3).alerts, 42.4)
    assert lines[0] == "ran 0:42"
    table = {line[:14].strip(): line[14:].split() for line in lines[4:]}
    assert table["observations"] == ["radar", "isl", "all"]
    assert table["read"] == ["1,300", "100", "1,400"]
    assert table["rejected"][:3] == ["0", "8", "8"]
    assert table["in flight"][:3] == ["0", "2", "2"]
    assert "duplicate" not in table
    assert lines[-1] == "every observation read is accounted for"
    assert max(map(len, lines)) < 80


def test_a_residue_is_never_called_accounted_for() -> None:
    lost = SourceAudit("radar", read=10, applied=9)
    lines = summary_lines([lost], Alerts(), 1.0)
    assert any(line.startswith("residue") and "NOT ACCOUNTED" in line for line in lines)
    assert "every observation read is accounted for" not in lines


def test_nothing_read_yet() -> None:
    assert len(summary_lines([], Alerts(), 1.0)) == 3


def test_facts_from_an_answer_of_status() -> None:
    source = {"lag": 5, "watermark": "2026-11-23T17:36:10.500Z"}
    answer = {
        "supervisor": {"state": "running"},
        "operators": [{"state": "running", "restarts": 2}, {"state": "starting", "restarts": 0}],
        "sources": [source, {"lag": 7, "watermark": "2026-11-23T17:36:09.000Z"}],
    }
    facts = with_status(Facts(read=9), answer)
    assert (facts.state, facts.ready, facts.operators, facts.restarts) == ("running", 1, 2, 2)
    assert (facts.lag, facts.read) == (12, 9)
    assert facts.watermark_ns == 1_795_455_369 * SECOND_NS
    answer["sources"].append({"lag": None, "watermark": None})  # type: ignore[union-attr]
    facts = with_status(facts, answer)
    assert (facts.lag, facts.watermark_ns) == (None, None)


def test_time_to_closest_approach_counts_down() -> None:
    one = frame(1)
    one.now_ns = TCA - 3 * SECOND_NS
    assert "in 0:03" in plain(one)[3]
    one.now_ns = TCA + 8 * SECOND_NS
    assert "0:08 ago" in plain(one)[3]
