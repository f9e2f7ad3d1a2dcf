"""Bad records with large keys: what a record may be at all is one bound, and the DLQ keeps the
rest whole. A key is not looked at by anything that judges a record, so only its size can harm.
"""

from __future__ import annotations

from collections import Counter

import pytest

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.cli.sim.recording import read_recording
from sda_pipeline.dlq.reading import read_entries
from sda_pipeline.limits import KIB, MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX
from sda_pipeline.log.source_log import read_log
from sda_pipeline.records.frames import parse_payload
from sda_pipeline.topology import load_topology
from tests.process import verdict
from tests.process.site import EPOCH_NS, Site

pytestmark = pytest.mark.process
TOPIC, AT_MS = "sda.obs.radar", EPOCH_NS // 10**6


def sent() -> tuple[list[OutMessage], list[OutMessage]]:
    """What must come into the DLQ, and what is more than a message may be."""
    full = MESSAGE_BYTES_MAX - 1
    kept = [OutMessage(b"%05d" % n * (20 * KIB), b"x", AT_MS) for n in range(80)]
    kept += [OutMessage(bytes(full), b"x", AT_MS)]
    kept += [OutMessage(b"k", b"x", AT_MS, (("trace", bytes(full - 6)),))]
    large = [OutMessage(bytes(900_000), b"x", AT_MS)] * 4
    large += [OutMessage(bytes(full), b"xy", AT_MS)]
    large += [OutMessage(b"k", b"xy", AT_MS, (("trace", bytes(full - 6)),))]
    return kept, large


def test_bad_records_with_large_keys(site: Site, undisturbed: dict[str, str]) -> None:
    """A reject of 100 KiB is kept, many of them are sent in pieces; a larger message is counted."""
    kept, large = sent()
    topology = load_topology(site.topology)
    producer = open_producer(topology.broker, kafka=topology.kafka)
    for message in [*large[:4], *kept, *large[4:]]:
        producer.produce(TOPIC, [message])
    producer.flush(60)
    producer.close()
    site.finish()
    verdict.check(site, undisturbed)
    assert {site.lives(operator) for operator in ("radar", "dlq-sink")} == {1}
    found = Counter(
        (entry.key_bytes, entry.original_payload)
        for entry in read_entries(site.state / "dlq")
        if entry.original_payload == b"x"
    )
    assert found == Counter((message.key, message.value) for message in kept)
    recorded = [message for message, _ in read_recording(site.root / "traffic.jsonl")]
    too_large = [m for m in recorded if m.topic == TOPIC and len(m.value) > PAYLOAD_BYTES_MAX]
    last = read_log(site.state / "log" / "radar").last()
    assert last is not None
    counts = parse_payload(last.header, last.payload).counts
    assert counts.discarded_oversize == len(large) + len(too_large)
