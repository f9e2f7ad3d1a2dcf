"""What a source reads again from Kafka: originals of skipped rows, rejects of a lost log."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sda_pipeline.dlq.files import read_entries
from tests.process import test_quarantine
from tests.process.poison import Poison
from tests.process.site import Site, kill_tree
from tests.process.state_rig import check, kill_operator, remove, stands_still, told
from tests.process.test_lost_rejects import all_applied
from tests.process.test_quarantine import failpoints, poison
from tests.process.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.process]
__all__ = ["poison"]  # a fixture


def written(site: Site) -> Counter[tuple[str, int, bytes]]:
    """What the DLQ holds: source, offset, original bytes; its ids name Kafka's generation."""
    entries = read_entries(site.state / "dlq")
    return Counter((e.operator, e.offset, e.original_payload) for e in entries)


def test_the_original_of_a_row_the_correlator_skips(
    site: Site, poison: tuple[Poison, Poison], undisturbed: dict[str, str]
) -> None:
    record = poison[0]
    site.finish(failpoints=failpoints(("correlator", record)))
    (entry,) = test_quarantine.quarantined(site)
    assert (entry.offset, entry.original_payload) == (record.offset, record.value)
    assert test_quarantine.verdict.audit_faults(site) == []
    assert test_quarantine.verdict.finals(site) != undisturbed


def test_rejects_that_went_with_a_log(
    site: Site, prepared: Site, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    embedded = prepared.copy_to(tmp_path / "embedded")
    embedded.finish()
    process = site.start("--end-of-input", failpoints="dlq-sink.after_read=1:hang")
    try:
        wait_until(lambda: stands_still(site, "dlq-sink") and all_applied(site), site.story)
        assert not written(site), "they must not have come yet"
        remove(site.state / "log" / "radar")
        kill_operator(site, "radar")
        wait_until(lambda: site.lives("radar") == 2, site.story)
        kill_operator(site, "dlq-sink")
        wait_until(lambda: process.poll() is not None, site.story)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode == 0, site.story()
    assert written(site) == written(embedded)
    assert told(site, "radar", "rejects_sought")
    assert not told(site, "radar", "rejects_in_doubt")
    check(site, undisturbed)
