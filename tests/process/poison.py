"""Records whose loss shows in the final alerts, and the run without them. No tests."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sda_pipeline.cli.sim.recording import read_recording
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.files import read_entries
from sda_pipeline.records.times import parse_times
from sda_pipeline.vocabulary import ErrorKind
from tests.process import verdict
from tests.process.site import Site

RADAR_TOPIC = "sda.obs.radar"
BEFORE_TCA_NS = (1 * 10**9, 20 * 10**9)  # within the last window of its encounter
MIDDLE = (500, 3500)  # of the first batch, which holds 4,096 messages


class Poison(NamedTuple):
    """A good radar message: its observation id, and where it lies in its topic."""

    id: str
    offset: int
    value: bytes


def radar_messages(site: Site) -> list[dict[str, Any]]:
    """The recording's radar messages; the index is the broker offset (one partition)."""
    lines = (site.root / "traffic.jsonl").read_bytes().splitlines()
    return [line for line in map(orjson.loads, lines) if line["topic"] == RADAR_TOPIC]


def radar_values(site: Site) -> list[bytes]:
    """The bytes of the same messages, as they are sent."""
    recorded = read_recording(site.root / "traffic.jsonl")
    return [message.value for message, _ in recorded if message.topic == RADAR_TOPIC]


def choose(site: Site, finals: dict[str, str]) -> tuple[Poison, Poison]:
    """One of the last radar observations of each of two alerts, in the middle of a large batch."""
    truth = orjson.loads((site.root / "traffic.jsonl.truth.json").read_bytes())
    injected = {fault["id"] for fault in truth["faults"]}
    found: list[Poison] = []
    values = radar_values(site)
    alerts = [dict(ast.literal_eval(final)) for final in finals.values()]
    for alert in sorted(alerts, key=lambda a: a["tca"]):
        tca = int(parse_times([alert["tca"]])[0][0])
        for offset, line in enumerate(radar_messages(site)):
            fields = line.get("value", {})
            if fields.get("satNo") not in (alert["sat1"], alert["sat2"]):
                continue
            before = tca - int(parse_times([fields["obTime"]])[0][0])
            near = BEFORE_TCA_NS[0] <= before <= BEFORE_TCA_NS[1]
            if near and MIDDLE[0] <= offset < MIDDLE[1] and fields["id"] not in injected:
                found.append(Poison(fields["id"], offset, values[offset]))
                break
    assert len(found) >= 2, "the traffic has no two alerts seen by radar"
    return found[0], found[-1]


def run_without(prepared: Site, root: Path, gone: set[str]) -> dict[str, str]:
    """Canonical finals of a run in which these records never existed."""
    site = prepared.copy_to(root, without="broker")
    lines = (site.root / "traffic.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if orjson.loads(line).get("value", {}).get("id") not in gone]
    assert len(kept) == len(lines) - len(gone)
    (site.root / "traffic.jsonl").write_bytes(b"".join(kept))
    site.fill()
    site.finish()
    return verdict.finals(site)


def quarantined(site: Site) -> list[Entry]:
    """Entries of kind Quarantined in the DLQ's files, in order."""
    return [e for e in read_entries(site.state / "dlq") if e.error_kind == ErrorKind.QUARANTINED]


def told(site: Site, event: str) -> list[dict[str, Any]]:
    """The supervisor's events of one kind, over all its lives."""
    return [line for line in site.events("supervisor") if line["event"] == event]
