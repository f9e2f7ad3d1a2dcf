"""Lies that keep the sums: one class for another, in one file or in two alike; and whole stores
that are gone, or back where they were. Each needs a witness that is somewhere else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import permutations

from sda_pipeline.dlq.quarantine_file import Line, _encode
from sda_pipeline.state.seal import Classes
from tests.process.forgery import Files
from tests.process.lies_about_records import COUNTS, DLQ, LOG, POSITIONS, ROWS, Lie, _first


def swapped(more: str, less: str) -> Callable[[Files], None]:
    """One row of the radar is of another class, says its entry in ``positions``."""
    return lambda files: files.position(
        "radar", lambda e: e.update({more: e[more] + 1, less: e[less] - 1})
    )


def told_alike(more: str, less: str) -> Callable[[Files], None]:
    """From the first record on, and in ``positions``, one record is of another class."""

    def forge(files: Files) -> None:
        files.relog("radar", lambda log: [r.with_counts(**{more: 1, less: -1}) for r in log])
        counts = list(files.log("radar")[-1].frame.counts.as_tuple())
        files.position("radar", lambda entry: entry.update(counts=counts))

    return forge


def rows_gone(count: int | None) -> Callable[[Files], None]:
    return lambda files: files.commit(rows_gone=[*files.contents().rows][:count])


def subscriber_gone(files: Files) -> None:
    for path in (files.root / "subscriber").iterdir():
        path.unlink()


def quarantine_more(files: Files) -> None:
    """A line that no supervisor has written, of a record that nobody has read yet."""
    line = Line(
        at="2026-11-23T12:00:00Z", operator="correlator", deaths=3, source="radar",
        generation=0, partition=0, offset=10**9, report=1,
    )  # fmt: skip
    with (files.state / "quarantine.jsonl").open("ab") as file:
        file.write(_encode(line))


def discard(name: str) -> bool:
    return name.startswith("discarded")


TWO_LIES: dict[str, Lie] = {
    **{f"positions: {more} for {less}": (swapped(more, less), POSITIONS)
       for more, less in permutations(Classes.__struct_fields__, 2)},
    **{f"log and positions: {more} for late": (told_alike(more, "late"), POSITIONS)
       for more in COUNTS if discard(more)},
    "all retained rows gone": (rows_gone(None), ROWS),
    "one key of the retained rows gone": (rows_gone(1), ROWS),
    "the subscriber's store gone": (subscriber_gone, "subscriber.sqlite: it stands at 0x0"),
    "the DLQ gone": (lambda f: shutil.rmtree(f.state / "dlq"), "dlq high-water mark of radar"),
    "the DLQ's files gone": (
        lambda f: [path.unlink() for path in (f.state / "dlq").glob("*.jsonl")], DLQ),
    "the DLQ's files emptied": (
        lambda f: [path.write_bytes(b"") for path in (f.state / "dlq").glob("*.jsonl")], DLQ),
    "a quarantine line more": (quarantine_more, "quarantine.jsonl: it holds 1 lines, 0 were"),
    "a log gone": (lambda f: shutil.rmtree(f.state / "log" / "radar"), "radar"),
    "a reject and its entry gone": (
        lambda f: (f.relog("radar", lambda log: [
            log[0]._replace(rejects=log[0].rejects[1:]).with_counts(rejected=-1, late=1),
            *(r.with_counts(rejected=-1, late=1) for r in log[1:])]),
            f.relist(lambda e: [x for x in e if x is not _first(e)]),
            f.remark("radar", entries=-1)), POSITIONS),
    "two values of a log record's header": (
        lambda f: f.relog("radar", lambda log: [
            *log[:-1], log[-1].with_header(watermark=1).with_part(watermark=1)]), LOG),
}  # fmt: skip
