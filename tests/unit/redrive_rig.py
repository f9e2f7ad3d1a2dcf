"""DLQ entries and the files of a pipeline that never ran, for ``sda-reprocess``. No test."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import yaml

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.dlq.entry import Entry, dlq_id, encode_line
from sda_pipeline.dlq.files import DlqFiles
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.records.time_text import format_time
from sda_pipeline.topology import load_topology, to_resolved_json

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_795_435_200 * 10**9  # 2026-11-23T12:00:00Z
TOPIC = "sda.obs.radar"


def observation(number: int, event_ns: int = T0) -> bytes:
    """A well-formed radar observation."""
    return json.dumps({
        "id": str(uuid.UUID(int=number)), "satNo": 1000 + number, "idSensor": "RAD-001",
        "obTime": format_time(event_ns), "dataMode": "TEST", "source": "test", "azimuth": 10.0,
        "elevation": 45.0, "range": 1000.0,
    }).encode()  # fmt: skip


def entry(number: int, **changes: Any) -> Entry:
    """The entry of the radar message at offset ``number``, refused at T0 + number s."""
    fields: dict[str, Any] = {
        "timestamp_unix_ms": T0 // 1_000_000 + number * 1000, "operator": "radar",
        "error_kind": "ValidationFailed", "error_message": "unknown sensor: idSensor 'X'",
        "retry_count": 0, "original_payload": observation(number, T0 + number * 10**9),
        "topic": TOPIC, "offset": number, "message_timestamp_ms": T0 // 1_000_000 + number * 1000,
        "key": str(1000 + number), "log_id": f"{1:016x}", "log_position": 1, "index": number,
        "catalogue": f"{7:016x}",
    } | changes  # fmt: skip
    name = dlq_id(
        fields["operator"], fields["topic"], 0, fields.get("partition", 0), fields["offset"],
        error_kind=fields["error_kind"],
    )  # fmt: skip
    fields.setdefault("dlq_id", name)
    fields.setdefault("root", fields["dlq_id"])
    return Entry(**fields)


def came_back(first: Entry, offset: int, attempts: int = 1) -> Entry:
    """The next life of an entry."""
    return entry(
        offset, root=first.root, attempts=attempts, original_payload=first.original_payload,
        operator=first.operator, error_kind=first.error_kind, topic=first.topic,
        message_timestamp_ms=first.message_timestamp_ms, key=first.key,
    )  # fmt: skip


ENTRIES = [
    entry(1),
    entry(2, error_kind="Deserialization", original_payload=b"\xff{broken", key="\xff"),
    entry(3, attempts=3, root="ab" * 16),
    entry(4, error_kind="Quarantined"),
    entry(5, operator="optical", topic="sda.obs.optical"),
    came_back(entry(6), 60),
    entry(6),
    entry(7, operator="gone", topic="sda.obs.gone"),
]


def old_line(found: Entry) -> bytes:
    """The entry as a release of version 1 wrote it."""
    fields = json.loads(encode_line(found)) | {"schema_version": 1}
    del fields["crc"], fields["catalogue"]
    return json.dumps(fields).encode() + b"\n"


def write_site(root: Path, entries: list[Entry]) -> Path:
    """A topology, the state of a pipeline that was started once, its DLQ and an empty broker."""
    document = yaml.safe_load((ROOT / "topology.yaml").read_text())
    document |= {
        "state": "state", "broker": "embedded:broker", "subscriber": {"path": "subscriber"},
        "catalogue": "catalogue.tle", "sensors": "sensors.yaml",
    }  # fmt: skip
    path = root / "topology.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    shutil.copy(ROOT / "sensors.yaml", root)
    (root / "catalogue.tle").write_text("")
    topology = load_topology(path)
    topology.state.mkdir(mode=0o700)
    (topology.state / "topology.json").write_bytes(to_resolved_json(topology))
    with DlqFiles(topology.state / "dlq") as files:
        files.append(entries, T0)
        files.sync({"radar": Mark(log_id=1, position=1, index=99, entries=len(entries))})
    producer = open_producer(topology.broker)
    producer.create_topic(TOPIC, 1)
    producer.close()
    return root
