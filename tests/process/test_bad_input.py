"""Bad input gets an answer and stops nothing: 10 % corrupt traffic, with and without kills.

The bad messages come on top of the good ones, so the final alerts must be those of the clean run;
each is in the DLQ exactly once with its bytes and its reason, or in a discard counter.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from sda_pipeline.cli.sim.faults import CORRUPTIONS
from sda_pipeline.cli.sim.recording import Recorded, read_recording
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.files import read_entries
from sda_pipeline.limits import PAYLOAD_BYTES_MAX
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import parse_payload
from tests.process import verdict
from tests.process.site import RECORDED_S, SEED, Site, kill_tree
from tests.process.state_rig import hangs
from tests.process.test_crash import rewinds
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

RATE, CORRUPT = "60", "0.1"
SOURCES = {"sda.obs.radar": "radar", "sda.obs.optical": "optical", "sda.obs.isl": "isl"}
Place = tuple[str, int]  # topic and offset: one partition each
Class = tuple[str, str, int, str]  # topic, key, timestamp, and what became of it

KILLS = {
    "undisturbed": "",
    "killed-between-log-and-dlq": (
        "radar.after_sync=1:kill,optical.after_append=1:kill,isl.after_publish=1:kill,"
        "dlq-sink.after_append=1:kill"
    ),
    "killed-before-the-release": (
        "radar.after_append=2:kill,optical.after_sync=1:kill,isl.after_broker_commit=1:kill,"
        "dlq-sink.after_sync=2:kill"
    ),
}
# The whole tree, at one instant, while this operator stands there; one after the other.
TREE_KILLS = {"the-whole-tree-killed": ("radar.after_append=1", "dlq-sink.after_append=1")}
KILLS |= dict.fromkeys(TREE_KILLS, "")


class BadInput(NamedTuple):
    """A filled broker, where its bad messages lie, what must become of them, the clean finals."""

    site: Site
    injected: dict[Place, Recorded]
    expected: Counter[Class]
    faults: dict[tuple[str, str, int], list[str]]
    clean: dict[str, str]


def places(path: Path) -> dict[Place, Recorded]:
    """Every message of a recording by topic and broker offset."""
    ends: Counter[str] = Counter()
    found = {}
    for message, _ in read_recording(path):
        found[message.topic, ends[message.topic]] = message
        ends[message.topic] += 1
    return found


def record(site: Site, *flags: str) -> dict[Place, Recorded]:
    site.run(
        "sda-sim", "record", "traffic.jsonl", "--rate", RATE, "--for", f"{RECORDED_S}s",
        "--seed", str(SEED), *flags,
    )  # fmt: skip
    return places(site.root / "traffic.jsonl")


@pytest.fixture(scope="module")
def bad_input(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> BadInput:
    clean_site = prepared.copy_to(tmp_path_factory.mktemp("clean") / "site", without="broker")
    good = Counter(record(clean_site).values())
    clean_site.fill()
    clean_site.finish()
    clean = verdict.finals(clean_site)
    assert len(clean) >= 5, "the clean run must lead to alerts"
    site = prepared.copy_to(tmp_path_factory.mktemp("bad") / "site", without="broker")
    injected = {}
    for place, message in record(site, "--corrupt", CORRUPT).items():
        if good[message]:
            good[message] -= 1
        else:
            injected[place] = message
    assert good.total() == 0, "every good message is there, byte for byte"
    site.fill()
    truth = orjson.loads((site.root / "traffic.jsonl.truth.json").read_bytes())["faults"]
    assert len(truth) == len(injected) > 500
    assert {fault["fault"] for fault in truth} == {*MESSAGES, *DISCARDS} == {*CORRUPTIONS}
    faults = defaultdict(list)
    for fault in truth:
        faults[fault["topic"], fault["key"], fault["timestamp_ms"]].append(fault["fault"])
    expected = Counter(
        (fault["topic"], fault["key"], fault["timestamp_ms"], fault["expected"]) for fault in truth
    )
    return BadInput(site, injected, expected, dict(faults), clean)


@pytest.mark.parametrize("kills", KILLS)
def test_every_bad_message_is_answered_once_and_no_alert_changes(
    kills: str, bad_input: BadInput, tmp_path: Path
) -> None:
    site = bad_input.site.copy_to(tmp_path / "site")
    for point in TREE_KILLS.get(kills, ()):
        process = site.start("--end-of-input", failpoints=f"{point}:hang")
        operator = point.partition(".")[0]
        wait_until(lambda operator=operator: hangs(site, operator), site.story)
        kill_tree(process)
        wait_until(lambda: not site.survivors(), site.story)
    site.finish(failpoints=KILLS[kills])
    killed = [point.partition(".")[0] for point in KILLS[kills].split(",") if point]
    assert all(site.lives(operator) == 2 for operator in killed), site.story()
    assert rewinds(site) == 0
    verdict.check(site, bad_input.clean)
    entries = [*read_entries(site.state / "dlq", report=no_damage)]
    check_entries(bad_input, entries)
    check_discards(bad_input, site, {(entry.topic, entry.offset) for entry in entries})


def no_damage(skipped: object) -> None:
    raise AssertionError(skipped)


def check_entries(bad_input: BadInput, entries: list[Entry]) -> None:
    """Each bad message once, none of the good ones, with its bytes and the class it must have."""
    found = Counter((entry.topic, entry.offset) for entry in entries)
    assert max(found.values()) == 1
    assert len({entry.dlq_id for entry in entries}) == len(entries)
    assert found.keys() <= bad_input.injected.keys(), "a good message was refused"
    got: Counter[Class] = Counter()
    answered: set[str] = set()
    for entry in entries:
        message = bad_input.injected[entry.topic, entry.offset]
        assert entry.original_payload == message.value
        assert (entry.key_bytes, entry.message_timestamp_ms) == (message.key, message.timestamp_ms)
        assert (entry.operator, entry.attempts) == (SOURCES[entry.topic], 0)
        got[entry.topic, entry.key, entry.message_timestamp_ms, entry.error_kind] += 1
        of = bad_input.faults[entry.topic, entry.key, entry.message_timestamp_ms]
        answered |= check_message(of, entry)
    for place in bad_input.injected.keys() - found.keys():
        message = bad_input.injected[place]
        assert message.timestamp_ms is not None
        got[message.topic, message.key.decode(), message.timestamp_ms, "discarded"] += 1
    assert got == bad_input.expected
    assert answered == MESSAGES.keys()


# What the message of each fault must name: the rule, the value, the limit.
MESSAGES = {
    "broken_json": r"^not JSON: .*(truncated|malformed)",
    "binary_noise": r"^not JSON: .*byte 0xff in position 0",
    "deep_nesting": r"^not JSON: nested too deeply, at most \d+ levels",
    "wrong_type": r"^wrong form: Expected `float`, got `str` - at `\$\.(range|ra|xpos)`",
    "missing_field": r"^wrong form: .*missing required field `(range|ra|xpos)`",
    "bad_uuid": r"^id 'not-a-uuid' is not a UUID: 8-4-4-4-12",
    "bad_time": r"^obTime '.*:60\.5Z' is not a time: .*no leap second",
    "new_schema": r"^schemaVersion 99 is not supported: 1$",
    "unknown_object": r"^unknown object: satNo 999999999 is not one of the \d+ in the catalogue",
    "unknown_sensor": r"^unknown sensor: idSensor 'NO-SUCH-SENSOR' is not one of the \d+",
    "impossible": r"(^out of range: (range 1\.0 km|declination 95\.0 deg), limit \[)|"
    r"(^position under Earth's surface: radius 0\.\d+ km, at least 6356\.752)",
    "not_finite": r"^not finite: (range|ra|xpos) is inf, it must be a finite number",
    "zero_sigma": r"^out of range: \w+Unc 0\.0 (deg|km), limit \(0, \d+\]",
    "negative_sigma": r"^out of range: \w+Unc -0\.5 (deg|km), limit \(0, \d+\]",
    "clock_ahead": r"^clock ahead: obTime is 10\.\d+ s after .*, clock_ahead_max 2 s",
    "outlier": r"^innovation gate: .* [\d.]+, at most [\d.]+ for \d degrees of freedom|"
    r"^direction",
}
DISCARDS = ("empty", "oversize")


def check_message(faults: list[str], entry: Entry) -> set[str]:
    """Which of the faults injected there the message names, one at least."""
    named = {fault for fault in faults if re.search(MESSAGES[fault], entry.error_message)}
    assert named, (faults, entry.error_message)
    return named


def check_discards(bad_input: BadInput, site: Site, in_dlq: set[Place]) -> None:
    """What is not in the DLQ is empty or too large, and counted as such by its source."""
    wanted: Counter[tuple[str, str]] = Counter()
    for place, message in bad_input.injected.items():
        if place not in in_dlq:
            assert not message.value or len(message.value) > PAYLOAD_BYTES_MAX
            wanted[SOURCES[message.topic], "oversize" if message.value else "empty"] += 1
    counted: Counter[tuple[str, str]] = Counter()
    for source in SOURCES.values():
        last = read_log(site.state / "log" / source).last()
        assert last is not None
        counts = parse_payload(last.header, last.payload).counts
        counted[source, "empty"] += counts.discarded_empty
        counted[source, "oversize"] += counts.discarded_oversize
    assert +counted == wanted
    assert {reason for _, reason in wanted} == {"empty", "oversize"}
