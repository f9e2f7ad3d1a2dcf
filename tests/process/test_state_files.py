"""Damaged logs and DLQ, foreign owners, newer formats, another catalogue: repaired or refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sda_pipeline.dlq.entry import decode_line
from sda_pipeline.dlq.files import POS_NAME, jsonl_files
from sda_pipeline.log.source_log import read_log
from sda_pipeline.state.alert_log import read_alerts
from supervisor.control import ask
from tests.process import verdict
from tests.process.newer_formats import NEWER, Newer
from tests.process.site import Site, kill_tree
from tests.process.state_rig import (
    SOURCES,
    audit_of,
    check,
    copy_of,
    crashes,
    flip,
    ledger,
    refused,
    remove,
    segment,
    stands_still,
    told,
)
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def site(interrupted: Site, tmp_path: Path) -> Site:
    return copy_of(interrupted, tmp_path / "site")


def test_a_damaged_log_is_refused_and_made_anew_as_advised(
    site: Site, undisturbed: dict[str, str]
) -> None:
    flip(segment(site, "radar"), 64 + 8 + 96 + 500)  # in the first of several records
    last = segment(site, "optical").stat().st_size
    flip(segment(site, "optical"), last - 9)  # in the last: as a torn tail
    remove(site.state / "log" / "isl")  # below what the correlator has applied, or nothing
    code, line = refused(site)
    assert code == 7
    assert line.startswith(f"cannot read the source log {segment(site, 'radar')} at byte ")
    assert line.endswith("aside: the log is made anew after the last applied position")
    remove(site.state / "log" / "radar")
    site.finish()
    truncated = told(site, "optical", "log_tail_truncated")
    assert truncated[0]["bytes"] > 0
    assert told(site, "radar", "log_missing")
    ids = {source: read_log(site.state / "log" / source) for source in SOURCES}
    assert ids["radar"].first > 1, "it goes on from where the correlator stands"
    check(site, undisturbed)


@pytest.mark.parametrize("damaged", [("line",), ("marks",), ("line", "marks")])
def test_damage_in_the_dlq_is_told_and_repaired_from_the_logs(
    damaged: tuple[str, ...], site: Site, undisturbed: dict[str, str]
) -> None:
    (file,) = jsonl_files(site.state / "dlq")
    before = file.read_bytes().splitlines(keepends=True)
    if "marks" in damaged:
        flip(site.state / "dlq" / POS_NAME, 40)
    if "line" in damaged:
        flip(file, len(before[0]) + 300)
    bad = file.read_bytes().splitlines(keepends=True)[1]
    site.finish()
    said = [line["why"] for line in told(site, "dlq-sink", "dlq_repaired")]
    aside = site.state / "dlq" / f"{file.name}.damaged-1"
    expected = {
        "marks": f"{POS_NAME}: its CRC is wrong; marks are read from the files",
        "line": f"{file.name} line 2: its CRC is wrong; it was moved to {aside.name}",
    }
    assert [why for why in said if why in expected.values()] == [expected[d] for d in damaged[::-1]]
    assert aside.exists() == ("line" in damaged)
    if aside.exists():
        assert aside.read_bytes() == bad, "what is damaged is kept"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len({*lines}) == len(lines)
    assert {*before} - {*lines} == (set() if damaged == ("marks",) else {before[1]})
    sent_again = [line for line in lines if b'"dlq_id":"%b"' % entry_id(before[1]) in line]
    assert len(sent_again) == 1, "the damaged entry is there again, once"
    check(site, undisturbed)


def entry_id(line: bytes) -> bytes:
    return decode_line(line).dlq_id.encode()


@pytest.mark.parametrize("what", ["log/radar", "correlator", "snapshots", "dlq", "subscriber"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_directory_of_another_user_is_refused(what: str, site: Site) -> None:
    path = site.root / "subscriber" if what == "subscriber" else site.state / what
    os.chown(path, 12345, -1)
    code, line = refused(site)
    assert code == 3
    assert "belongs to user 12345, not to 0; run as its owner or name another directory" in line


@pytest.mark.parametrize("newer", NEWER)
def test_a_newer_format_is_refused(newer: Newer, site: Site) -> None:
    newer(site)
    code, line = refused(site)
    assert code == 3, line
    assert re.search(r"(format version|data format) \d+, this release reads", line), line
    assert "use the release that wrote it" in line


def checksum(line: str) -> int:
    """The last digit of an element line."""
    return sum(int(c) if c.isdigit() else int(c == "-") for c in line[:68]) % 10


def move_object(site: Site, satno: int) -> None:
    """Along its orbit by 0.0001 deg, about 12 m: another catalogue, nearly the same encounters."""
    path = site.root / "catalogue.tle"
    lines = path.read_text().splitlines()
    for at, line in enumerate(lines):
        if line.startswith(f"2 {satno}"):
            moved = f"{line[:43]}{(float(line[43:51]) + 0.0001) % 360:8.4f}{line[51:68]}"
            lines[at] = f"{moved}{checksum(moved)}"
    path.write_text("\n".join(lines) + "\n")


def stop_before_isl(site: Site) -> None:
    """All is delivered but for the third source, which has logged nothing: SIGKILL to the tree."""
    process = site.start("--end-of-input", failpoints="isl.after_consume=1:hang")
    try:
        wait_until(lambda: stands_still(site, "isl") and delivered(site), site.story)
    finally:
        kill_tree(process)
    wait_until(lambda: not site.survivors(), site.story)


def delivered(site: Site) -> bool:
    """Two sources have ended, and what they led to is at the subscriber."""
    words = ask(site.state, "board", "look")["words"]
    applied = all(words[f"{s}.applied"] == words[f"{s}.log_end"] for s in ("radar", "optical"))
    ended = words["radar.ended"] and words["optical.ended"]
    return applied and ended and words["sub_pos"] == words["outbox_end"] and not words["dirty"]


def test_another_catalogue_is_refused_until_accepted(prepared: Site, tmp_path: Path) -> None:
    site = prepared.copy_to(tmp_path / "site")
    stop_before_isl(site)
    before = {r["alert_id"]: r for r in read_alerts(site.state / "alerts.sqlite")}
    assert before
    assert not any(record["final"] for record in before.values())
    satno = next(iter(before.values()))["sat1"]
    move_object(site, satno)
    code, line = refused(site)
    assert code == 3
    assert line.startswith("cannot start: the state was built with catalogue ")
    assert line.endswith("or start with --accept-catalogue")
    site.finish("--accept-catalogue")

    report = audit_of(site)
    assert report.faults == []
    assert sum(source.superseded for source in report.sources) > 0
    assert [source.residue for source in report.sources] == [0, 0, 0]
    rows = ledger(site)
    assert verdict.ledger_faults(rows) == []
    after = {r["alert_id"]: r for r in read_alerts(site.state / "alerts.sqlite")}
    assert all(after[alert]["final"] for alert in before), "each open encounter ended under its id"
    going_on = [a for a in before if after[a]["action"] == "insert"]
    assert going_on, "some of them are seen by the new rows as well"
    pairs = [(r["sat1"], r["sat2"], r["closes"][:16]) for r in after.values()]
    assert len(set(pairs)) == len(pairs), "no encounter has two names"
    assert crashes(site) == []
