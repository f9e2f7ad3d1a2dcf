"""``sda-reprocess`` over ten thousand entries whose observations a source has already logged.

The log has the shape a live one has: the linger cuts about 60 batches a second, so 10,000 obs/s
leave frames of 170 rows. Nothing is sent, because everything is known: what is measured is the
reading of the DLQ, the search of the log and the table. No pipeline runs.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from operators.core.batch import Source, build_frame
from sda_pipeline.cli.reprocess.pipeline_place import find
from sda_pipeline.clock import Clock
from sda_pipeline.dlq.entry import Entry, dlq_id
from sda_pipeline.dlq.files import DlqFiles
from sda_pipeline.dlq.marks import Mark
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.log.source_log import LogStart, SourceLog
from sda_pipeline.records.frames import KIND_ROWS, Counts, Part
from sda_pipeline.records.rows import ROW
from sda_pipeline.records.time_text import format_time
from sda_pipeline.topology import load_topology, to_resolved_json
from tests.bench.bench_figures import Figure
from tests.bench.bench_inputs import Say
from tests.bench.bench_tree import BenchError
from tests.process.site import EPOCH_NS, Site

REPROCESS_S = 5.0  # SPEC 10
ENTRIES = 10_000
RECORDS, ROWS = 9_000, 170  # 150 s at 60 batches a second and 10,000 observations a second
STEP_NS = SECOND_NS // 60 // ROWS
MAX_LATENESS_NS = SECOND_NS // 10
SOURCE, TOPIC = "radar", "sda.obs.radar"


def measure_reprocess(root: Path, clock: Clock, say: Say) -> tuple[list[Figure], dict[str, Any]]:
    """The whole command, as a user calls it, with and without its ledger's help."""
    site = _site(root)
    say(f"writing {RECORDS:,} log records and {ENTRIES:,} entries")
    ids = np.random.default_rng(1).integers(1, 2**63, (RECORDS * ROWS, 2), dtype=np.uint64)
    _write_log(site, ids)
    _write_entries(site, ids)
    found = {}
    for name, flags in {"run --yes": ("--yes",), "run --dry-run": ("--dry-run",)}.items():
        began = clock.monotonic_ns()
        done = subprocess.run(
            site.command("sda-reprocess", "run", *flags, "--json", "--state", "state"),
            cwd=site.root, capture_output=True, check=False,
        )  # fmt: skip
        seconds = (clock.monotonic_ns() - began) / SECOND_NS
        if done.returncode != 0:
            raise BenchError(f"sda-reprocess {name} exited {done.returncode}: {done.stderr!r}")
        summary = orjson.loads(done.stdout)["summary"]
        known, sent = summary["verdicts"]["known"], summary["sends"]
        if (known, sent) != (ENTRIES, 0):
            raise BenchError(f"{known} of {ENTRIES} were known, {sent} would be sent")
        found[name] = seconds
        say(f"{name}: {seconds:.2f} s")
    note = f"a log of {RECORDS:,} records with {ROWS} rows each; none is sent"
    return [
        Figure(f"sda-reprocess {name}, {ENTRIES:,} entries already applied", seconds, "s",
               at_most=REPROCESS_S, note=note)
        for name, seconds in found.items()
    ], {"records": RECORDS, "rows": ROWS, "seconds": found}  # fmt: skip


def _site(root: Path) -> Site:
    """The files of a pipeline that was started once."""
    root.mkdir(parents=True)
    site = Site(root)
    site.write_topology()
    (root / "catalogue.tle").write_text("")
    topology = load_topology(site.topology)
    topology.state.mkdir(mode=0o700)
    (topology.state / "topology.json").write_bytes(to_resolved_json(topology))
    return site


def _time(number: int) -> int:
    return EPOCH_NS + number * STEP_NS


def _write_log(site: Site, ids: Any) -> None:
    source = Source(0, 7, 1, never_shed=False)
    directory = find(site.state, None).log(SOURCE)
    with SourceLog.open(directory, 0, LogStart(7, 1)) as log:
        for record in range(RECORDS):
            first = record * ROWS
            rows = np.zeros(ROWS, ROW)
            rows["id"] = ids[first : first + ROWS]
            rows["t"] = _time(first) + STEP_NS * np.arange(ROWS)
            rows["sat"] = 1000 + np.arange(ROWS)
            mark = int(rows["t"][-1]) - MAX_LATENESS_NS
            parts = (Part(0, 0, first + ROWS, mark),)
            built = build_frame(source, KIND_ROWS, log.end + 1, mark, 0, parts, Counts(), rows)
            log.append(built.header, built.payload, b"")
        log.sync()


def _write_entries(site: Site, ids: Any) -> None:
    """Every so many-th observation of the log was refused once and has come in since."""
    step = RECORDS * ROWS // ENTRIES
    entries = [_entry(number * step, ids) for number in range(ENTRIES)]
    with DlqFiles(site.state / "dlq") as files:
        files.append(entries, EPOCH_NS)
        files.sync({SOURCE: Mark(log_id=7, position=1, index=ENTRIES - 1, entries=ENTRIES)})


def _entry(number: int, ids: Any) -> Entry:
    high, low = (int(half) for half in ids[number])
    at_ms = _time(number) // 1_000_000
    payload = {
        "id": str(uuid.UUID(int=high << 64 | low)), "satNo": 1000 + number % ROWS,
        "idSensor": "RAD-001", "obTime": format_time(_time(number)), "dataMode": "TEST",
        "source": "bench", "azimuth": 10.0, "elevation": 45.0, "range": 1000.0,
    }  # fmt: skip
    name = dlq_id(SOURCE, TOPIC, 0, 0, number, error_kind="ValidationFailed")
    return Entry(
        timestamp_unix_ms=at_ms, operator=SOURCE, error_kind="ValidationFailed",
        error_message="unknown sensor: idSensor 'RAD-001' is not in the registry", retry_count=0,
        original_payload=orjson.dumps(payload), dlq_id=name, root=name, topic=TOPIC, offset=number,
        message_timestamp_ms=at_ms, key=str(payload["satNo"]), log_id=f"{7:016x}", log_position=1,
        index=number,
    )  # fmt: skip
