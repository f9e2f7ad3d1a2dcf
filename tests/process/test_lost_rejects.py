"""A source's log is lost before its rejects reach the DLQ: they are found again at the broker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from sda_pipeline.dlq.entry import decode_line
from sda_pipeline.dlq.files import POS_NAME, DlqFiles, jsonl_files, read_entries, read_marks
from supervisor.control import ask
from tests.process.site import Site, kill_tree
from tests.process.state_rig import audit_of, check, kill_operator, remove, stands_still, told
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

Written = Counter[tuple[str, str, bytes]]


def written(site: Site) -> Written:
    """What the DLQ holds: source, id and original bytes."""
    entries = read_entries(site.state / "dlq")
    return Counter((e.operator, e.dlq_id, e.original_payload) for e in entries)


@pytest.fixture(scope="module")
def expected(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """What the DLQ holds when nobody disturbs the run."""
    site = prepared.copy_to(tmp_path_factory.mktemp("expected") / "site")
    site.finish()
    found = written(site)
    assert min(Counter(name for name, _, _ in found).values()) > 20, (
        "the input must have bad records"
    )
    assert max(found.values()) == 1
    return found


def all_applied(site: Site) -> bool:
    """The correlator has all of radar's rows; only the dlq-sink is behind."""
    words = ask(site.state, "board", "look")["words"]
    return bool(words["radar.ended"]) and words["radar.applied"] == words["radar.log_end"]


def forget_one(site: Site) -> None:
    """A hand-made lie: an entry from before the log goes, and the mark counts without it."""
    with DlqFiles(site.state / "dlq") as files:
        mark = files.marks["radar"]
    (path,) = jsonl_files(site.state / "dlq")
    lines = path.read_bytes().splitlines(keepends=True)
    old = next(n for n, line in enumerate(lines) if decode_line(line).operator == "radar")
    path.write_bytes(b"".join(lines[:old] + lines[old + 1 :]))
    (site.state / "dlq" / POS_NAME).unlink()
    with DlqFiles(site.state / "dlq") as files:
        files.store_marks(
            {**files.marks, "radar": msgspec.structs.replace(mark, entries=mark.entries - 1)}
        )


@pytest.mark.parametrize("again", [False, True], ids=["once", "killed-on-the-way"])
def test_rejects_that_went_with_a_log_are_found_again(
    again: bool, prepared: Site, tmp_path: Path, undisturbed: dict[str, str], expected: Written
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    process = site.start("--end-of-input", failpoints="dlq-sink.after_read=1:hang")
    try:
        wait_until(lambda: stands_still(site, "dlq-sink") and all_applied(site), site.story)
        assert written(site) == Counter(), "they must not have come yet"
        remove(site.state / "log" / "radar")
        kill_operator(site, "radar")
        wait_until(lambda: site.lives("radar") == 2, site.story)
        if again:  # what it has sent already comes twice
            kill_operator(site, "radar")
            wait_until(lambda: site.lives("radar") == 3, site.story)
        kill_operator(site, "dlq-sink")
        wait_until(lambda: process.poll() is not None, site.story)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode == 0, site.story()
    assert written(site) == expected
    assert told(site, "radar", "log_missing")
    assert told(site, "radar", "rejects_sought")
    assert not told(site, "radar", "rejects_in_doubt")
    mark = read_marks(site.state / "dlq")["radar"]
    assert (mark.replaced, mark.in_doubt) == (True, 0)
    check(site, undisturbed)
    forget_one(site)
    assert [f for f in audit_of(site).faults if "the files lack 1 of the rejects" in f]
