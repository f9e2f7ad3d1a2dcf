"""What an effect at the subscriber says to a person: one line each, and sums of them. Pure."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

import msgspec

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import AlertRecord
from sda_pipeline.records.times import format_time, parse_times
from sda_pipeline.state.alert_state import Action
from sda_pipeline.vocabulary import LEVEL_RANK, Effect, Level

UPGRADED, LOWERED = "upgraded", "lowered"
WORDS = {
    Effect.RAISE: "raised",
    Effect.CHANGE: UPGRADED,
    Effect.CONFIRM: "confirmed",
    Effect.WITHDRAW: "withdrawn",
    Effect.REINSTATE: "raised again",
}
FINAL = "final"
RECENT_MAX = 10_000  # bounds memory; no minute has so many
LINES_KEPT = 200  # more alerts than any terminal has lines

_decoder = msgspec.json.Decoder(AlertRecord)


class Line(NamedTuple):
    """One effect. What is not known is None."""

    at_ns: int  # when the subscriber committed it, wall clock
    alert_id: str
    pair: str
    level: str | None  # after the effect
    change: str  # "raised", "confirmed final", ...
    tca_ns: int | None
    miss_m: float | None
    pc: float | None
    final: bool


class Alerts:
    """The subscriber's ledger as far as it was read: levels, newest lines, sums."""

    def __init__(self) -> None:
        self._levels: dict[str, str | None] = {}
        self._lines: dict[str, Line] = {}  # by alert; the newest change last
        self._recent: deque[int] = deque(maxlen=RECENT_MAX)  # ns, of every effect
        self.changes: Counter[str] = Counter()  # of this run, by word

    def remember(self, action: Action) -> None:
        """Take note of an effect of an earlier run."""
        self._levels[action.alert_id] = action.level

    def take(self, action: Action, body: bytes) -> Line:
        """Take an effect and the newest record of its alert (``b""``: forgotten)."""
        alert_id, effect = action.alert_id, action.effect
        word = _word(effect, self._levels.get(alert_id), action.level)
        self.changes[word] += 1
        self.changes[FINAL] += action.final
        self._recent.append(action.at_ns)
        before = self._lines.pop(alert_id, None)
        pair, tca_ns, miss_m, pc = _figures(action, body, before)
        line = Line(
            action.at_ns, alert_id, pair, action.level, f"{word} {FINAL}" if action.final else word,
            tca_ns, miss_m, pc, action.final,
        )  # fmt: skip
        self._lines[alert_id] = line
        self._levels[alert_id] = action.level
        if len(self._lines) > LINES_KEPT:
            del self._lines[next(iter(self._lines))]
        return line

    def newest(self, count: int) -> list[Line]:
        """The last line of each alert that changed in this run, newest first."""
        return list(self._lines.values())[: -count - 1 : -1] if count > 0 else []

    def in_last_minute(self, now_ns: int) -> int:
        """How many effects there were."""
        while self._recent and self._recent[0] <= now_ns - 60 * SECOND_NS:
            self._recent.popleft()
        return len(self._recent)

    def levels(self) -> Counter[str | None]:
        """Alerts by the level they have now, None for withdrawn ones; of every run."""
        return Counter(self._levels.values())


def _word(effect: Effect, before: str | None, level: str | None) -> str:
    if effect is Effect.CHANGE and _rank(level) < _rank(before):
        return LOWERED
    return WORDS[effect]


def _rank(level: str | None) -> int:
    return LEVEL_RANK[None if level is None else Level(level)]


def _figures(
    action: Action, body: bytes, before: Line | None
) -> tuple[str, int | None, float | None, float | None]:
    """Pair, TCA, miss and Pc: of the effect's own record, else as last known.

    Where a newer record has replaced it, and nothing is left of the figures, they stay unknown.
    """
    pair = before.pair if before else "?"
    known = (before.tca_ns, before.miss_m, before.pc) if before else (None, None, None)
    if not body:
        return pair, *known
    record = _decoder.decode(body)
    pair, tca = f"{record.sat1}-{record.sat2}", known[0]
    if record.tca is not None:
        tca = int(parse_times([record.tca])[0][0])
        if record.sequence <= action.sequence:
            return pair, tca, record.miss_m, record.pc
    if action.effect is Effect.WITHDRAW:
        return pair, tca, *known[1:]
    return pair, tca, None, None


# --- text -----------------------------------------------------------------------------------


def plain_line(line: Line) -> str:
    """One effect for a pipe or a file; columns are stable."""
    tca = "-" if line.tca_ns is None else clock_time(line.tca_ns, "milliseconds")
    return (
        f"{format_time(line.at_ns)[:23]}Z  {line.pair:<13} {line.level or '-':<6}  "
        f"{line.change:<16}  TCA {tca:<12}  miss {miss_text(line.miss_m):>8}  "
        f"Pc {pc_text(line.pc):>8}"
    )


def clock_time(at_ns: int, precision: str = "seconds") -> str:
    """UTC of day, ``17:36:10`` or with milliseconds."""
    return format_time(at_ns)[11 : 23 if precision == "milliseconds" else 19]


def countdown(tca_ns: int | None, now_ns: int) -> str:
    """``in 0:12`` before, ``0:12 ago`` after."""
    if tca_ns is None:
        return "-"
    left = tca_ns - now_ns
    text = duration(abs(left) // SECOND_NS)
    return f"in {text}" if left >= 0 else f"{text} ago"


def duration(seconds: int) -> str:
    """``0:12``, ``12:05``, ``1:02:33``."""
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def miss_text(miss_m: float | None) -> str:
    """``373 m`` or ``12.3 km``."""
    if miss_m is None:
        return "-"
    return f"{miss_m:.0f} m" if miss_m < 9999.5 else f"{miss_m / 1000:.1f} km"


def pc_text(pc: float | None) -> str:
    """``1.95e-03``; below any meaning just ``0``."""
    if pc is None:
        return "-"
    return "0" if pc < 1e-99 else f"{pc:.2e}"


def changes_text(alerts: Alerts) -> str:
    """``31 raised, 4 withdrawn, 12 final``."""
    words = (*dict.fromkeys([*WORDS.values()]), LOWERED, FINAL)
    known = {word: alerts.changes[word] for word in words if alerts.changes[word]}
    return ", ".join(f"{count:,} {word}" for word, count in known.items()) or "none yet"


def levels_text(alerts: Alerts) -> str:
    """``14 RED, 2 YELLOW, 5 withdrawn``."""
    found = alerts.levels()
    named = [(found[level], str(level)) for level in Level if found[level] or level != Level.WATCH]
    return ", ".join(f"{count:,} {name}" for count, name in [*named, (found[None], "withdrawn")])
