"""What ``sda-reprocess`` says beforehand is what happens, when nothing waits at the broker: late
ones by how much, those that are refused again with their root and their attempts. While something
waits it says so: lateness is a lower bound then.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.dlq.redrive_headers import read_headers
from sda_pipeline.limits import REDRIVE_ATTEMPTS_MAX
from tests.process import verdict
from tests.process.flow import PLAYBACK
from tests.process.poison import quarantined, radar_messages
from tests.process.reprocess_rig import (
    Live,
    copy_with_state,
    counts,
    forget_sensors,
    in_dlq,
    record,
    refused_first,
    reprocess,
    restore_sensors,
    sendings,
    taken,
)
from tests.process.site import Site
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

LOST = "RAD-004"


def test_what_is_told_to_be_late_is_late_and_nothing_else(prepared: Site, tmp_path: Path) -> None:
    """One sensor of many was unknown: the others have moved the watermark past most of it."""
    site, _ = refused_first(prepared, tmp_path, 60, lambda name: name == LOST, radar_only=False)
    entries = in_dlq(site)
    with Live(site, "--accept-catalogue") as live:
        before = counts(site)["radar"]
        told = reprocess(site, "run", "--yes").said
        live.settle()
        after = counts(site)["radar"]
        check_backlog(live, told["summary"])
    verdicts = told["summary"]["verdicts"]
    assert verdicts["late"] > 50, told["summary"]
    assert verdicts["re-injected"] > 5
    assert verdicts["late"] + verdicts["re-injected"] == len(entries) == told["sent"]
    assert after["late"] - before["late"] == verdicts["late"]
    assert after["rejected"] == before["rejected"]
    by = [entry["late_by_s"] for entry in told["entries"] if entry["verdict"] == "late"]
    assert by == sorted(by, reverse=True), "in order of event time"
    assert told["summary"]["late_by_s"] == {"least": by[-1], "most": by[0]}
    assert 0 < by[-1] < by[0] < 150


def test_what_is_not_cured_is_refused_again_and_never_late(prepared: Site, tmp_path: Path) -> None:
    """By the watermark most of it would be late; the rules come first."""
    site, _ = refused_first(prepared, tmp_path, 60, lambda name: name == LOST, radar_only=False)
    forget_sensors(site, lambda name: name == LOST)
    entries = in_dlq(site)
    with Live(site) as live:
        before = counts(site)["radar"]
        told = reprocess(site, "run", "--yes").said
        live.settle(2 * len(entries))
        after = counts(site)["radar"]
    verdicts = told["summary"]["verdicts"]
    assert (verdicts["refused again"], verdicts["late"]) == (len(entries), 0)
    assert {entry["late_by_s"] for entry in told["entries"]} == {None}
    assert {sending.expected for sending in sendings(site)} == {"refused again"}
    assert after["late"] == before["late"]
    assert after["rejected"] - before["rejected"] == len(entries) > 50


def test_what_waits_at_the_broker_is_told_and_makes_more_of_them_late(
    prepared: Site, tmp_path: Path
) -> None:
    """The cure of the runbook: stop, correct the sensors, start; meanwhile traffic goes on."""
    site = prepared.copy_to(tmp_path / "site", without="broker")
    site.write_topology(**PLAYBACK)
    lines = record(site, 60, radar_only=True)
    forget_sensors(site, lambda name: name.startswith("RAD"))
    traffic, cut = site.root / "traffic.jsonl", len(lines) * 4 // 5
    traffic.write_bytes(b"".join(lines[:cut]))
    site.fill()
    with Live(site) as live:
        live.settle(cut)
        live.stop()
    restore_sensors(site)
    traffic.write_bytes(b"".join(lines[cut:]))
    site.fill()
    told = reprocess(site, "run", "--yes").said["summary"]
    assert (told["verdicts"]["re-injected"], told["verdicts"]["late"]) == (cut, 0)
    assert told["waiting"] == {"radar": len(lines) - cut}
    assert any(f"up to {len(lines) - cut} messages wait" in w for w in told["warnings"])
    with Live(site, "--accept-catalogue") as live:
        live.settle()
        live.stop()
    assert counts(site)["radar"]["late"] > cut // 2, "as it said: more than it told"


def check_backlog(live: Live, before: dict[str, Any]) -> None:
    """While a source stands still, what comes before the re-injected records is counted."""
    site = live.site
    assert before["waiting"] == {"radar": 0}
    (pid,) = [o["pid"] for o in site.status()["operators"] if o["name"] == "radar"]
    os.kill(pid, signal.SIGSTOP)
    try:
        site.fill()
        summary = reprocess(site, "--dry-run", "--force").said["summary"]
    finally:
        os.kill(pid, signal.SIGCONT)
    there = len(radar_messages(site))
    assert summary["waiting"] == {"radar": there}
    assert f"up to {there} messages wait at the broker" in summary["warnings"][-1]
    live.settle()
    assert reprocess(site, "--dry-run", "--force").said["summary"]["waiting"] == {"radar": 0}


def test_a_record_that_fails_again_keeps_its_root_and_counts_attempts(
    site: Site, tmp_path: Path
) -> None:
    site.write_topology(**PLAYBACK)
    arguments = (
        "run",
        "--yes",
        "--error-kind",
        "Deserialization",
        "--error-kind",
        "SchemaMismatch",
    )
    with Live(site) as live:
        live.settle()
        first = {e.dlq_id: e for e in in_dlq(site) if e.error_kind != "ValidationFailed"}
        others = len(in_dlq(site)) - len(first)
        assert len(first) > 50
        effects = verdict.ledger(site)
        for attempt in range(1, REDRIVE_ATTEMPTS_MAX + 1):
            told = reprocess(site, *arguments)
            assert told.said["sent"] == told.said["summary"]["refused_again"] == len(first)
            assert told.said["summary"]["verdicts"]["came back"] == (attempt - 1) * len(first)
            live.settle(others + (attempt + 1) * len(first))
            lives = [e for e in in_dlq(site) if e.attempts == attempt]
            assert Counter(e.root for e in lives) == Counter(list(first))
            for life in lives:
                original = first[life.root]
                assert life.dlq_id != life.root
                assert life.original_payload == original.original_payload
                assert life.message_timestamp_ms == original.message_timestamp_ms
                assert (life.key, life.error_kind) == (original.key, original.error_kind)
        refused = reprocess(site, *arguments).said
        assert (refused["sent"], refused["summary"]["verdicts"]["skipped"]) == (0, len(first))
        forced = reprocess(site, *arguments, "--force").said
        assert forced["sent"] == len(first)
        live.settle(others + 5 * len(first))
        assert counts(site)["radar"]["residue"] == 0
        assert verdict.ledger(site) == effects
        check_story(site, next(iter(first)))
        live.stop()
    check_trial(copy_with_state(site, tmp_path / "copy"), len(in_dlq(site)))


def last_radar_record(site: Site) -> str:
    """The observation id that is the newest of its topic: the watermark never passes it."""
    truth = orjson.loads((site.root / "traffic.jsonl.truth.json").read_bytes())
    faulty = {fault["id"] for fault in truth["faults"]}
    values = [message["value"] for message in radar_messages(site) if "value" in message]
    good = [value for value in values if value.get("id") not in faulty]
    return str(max(good, key=lambda value: value["obTime"])["id"])


def test_a_quarantined_record_is_tried_again_only_by_force(site: Site) -> None:
    site.write_topology(**PLAYBACK)
    deadly = f"radar.row@{last_radar_record(site)}:kill"
    arguments = ("run", "--yes", "--error-kind", "Quarantined")
    with Live(site, failpoints=deadly) as live:
        wait_until(lambda: len(quarantined(site)) == 1, site.story)
        live.settle()
        told = reprocess(site, *arguments).said
        assert (told["sent"], told["summary"]["verdicts"]["skipped"]) == (0, 1)
        told = reprocess(site, *arguments, "--force").said
        assert told["sent"] == 1
        assert any("three times again" in warning for warning in told["summary"]["warnings"])
        wait_until(lambda: len(quarantined(site)) == 2, site.story)
        live.settle()
        live.stop()
    first, second = quarantined(site)
    assert (second.root, second.attempts) == (first.dlq_id, 1)
    assert second.offset > first.offset
    before = taken(site)
    with Live(site) as live:  # the release with the fix
        assert reprocess(site, *arguments, "--force").said["sent"] == 1
        live.settle()
        assert len(quarantined(site)) == 2
        assert taken(site) == before + 1
        live.stop()


def check_story(site: Site, root: str) -> None:
    """``show`` of a first life tells all of them, and every sending."""
    story = reprocess(site, "show", root[:16]).said
    assert (story["dlq_id"], story["root"], story["attempts"]) == (root, root, 0)
    assert [life["attempts"] for life in story["lives"]] == [0, 1, 2, 3, 4]
    assert [(s["attempts"], s["topic"]) for s in story["sendings"]] == [
        (k, story["topic"]) for k in (1, 2, 3, 4)
    ]
    assert story["decoder_says"]


def check_trial(site: Site, entries: int) -> None:
    """Another topic: made, filled with the newest life of each; counted apart in the ledger."""
    before = len(sendings(site))
    done = reprocess(site, "run", "--yes", "--force", "--target-topic", "trial").said
    newest = {e.root: e for e in sorted(in_dlq(site), key=lambda e: e.attempts)}
    assert done["sent"] == len(newest) < entries
    assert len(sendings(site)) == before + len(newest)
    consumer = open_consumer(f"embedded:{site.root / 'broker'}", "trial", "a-test", 1)
    batch = consumer.consume(entries, 1 << 30, 0.0)
    consumer.close()
    got = Counter(zip(batch.keys, batch.values, batch.timestamps_ms.tolist(), strict=True))
    assert got == Counter(
        (e.key_bytes, e.original_payload, e.message_timestamp_ms) for e in newest.values()
    )
    headers = dict(read_headers(h) for h in batch.headers)
    assert headers == {root: e.attempts + 1 for root, e in newest.items()}
    again = reprocess(site, "run", "--yes", "--force", "--target-topic", "trial", "--dry-run").said
    assert again["summary"]["verdicts"]["known"] == len(newest)
