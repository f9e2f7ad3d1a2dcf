"""What ``sda-reprocess`` shows of entries that are damaged, hostile, old or of the future, and what
``migrate`` does with them.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import orjson
import pytest

from sda_pipeline.cli.reprocess.reprocess_cli import main
from sda_pipeline.dlq.files import DlqFiles
from tests.unit.redrive_rig import ENTRIES, T0, TOPIC, entry, old_line
from tests.unit.reprocess_cli_rig import Reprocess, name, reprocess, site

__all__ = ["reprocess", "site"]  # the fixtures


def test_what_a_sender_wrote_never_steers_a_terminal(site: Path, reprocess: Reprocess) -> None:
    """Sensor, key, message, payload and operator come from outside; a table stays a table."""
    steering = "\x1b]0;owned\x07\n\u202e\x9b2J"
    hostile = entry(
        30, sensor=steering, key="\x1b[2J\x9b", error_message=steering, operator=steering,
        topic=f"sda.obs.radar{steering}", original_payload=steering.encode(),
    )  # fmt: skip
    with DlqFiles(site / "state/dlq") as files:
        files.append([hostile], T0)
        files.sync({})
    for arguments in (
        ("list",), ("show", hostile.dlq_id), ("run", "--dry-run"), ("list", "--operator", "x"),
    ):  # fmt: skip
        ran = reprocess(*arguments)
        said = ran.out + ran.err
        assert "\\x1b]0;owned\\x07" in said, arguments
        assert [c for c in said.replace("\n", "") if not c.isprintable()] == [], arguments
    assert len(reprocess("list").out.splitlines()) == 1 + len(ENTRIES) + 1
    assert "key                \\x1b[2J\\x9b" in reprocess("show", hostile.dlq_id).out


def test_migrate_refuses_beside_a_running_pipeline(site: Path, reprocess: Reprocess) -> None:
    path = site / "state/dlq/2026-11-22-1.jsonl"
    path.write_bytes(old_line(entry(20)) + b'{"schema_version":9}\n')
    told = "2026-11-22-1.jsonl: 1 entries {} as 2, 1 of the unknown version 9 kept"
    assert told.format("would be rewritten") in reprocess("migrate", "--dry-run").out
    before = path.read_bytes()
    fd = os.open(site / "state/lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ran = reprocess("migrate")
    assert (ran.code, path.read_bytes()) == (4, before)
    assert "stop it first" in ran.err
    os.close(fd)
    assert told.format("rewritten") in reprocess("migrate").out
    assert reprocess("migrate").out == "0 files rewritten\n"


def test_migrate_says_what_it_leaves_and_who_mends_it(site: Path, reprocess: Reprocess) -> None:
    path = site / "state/dlq/2026-11-22-1.jsonl"
    path.write_bytes(old_line(entry(20)) + b"{broken\n")
    out = reprocess("migrate").out
    assert "2026-11-22-1.jsonl: 1 entries rewritten as 2, 1 damaged lines kept" in out
    assert "the next start moves them aside and has their rejects sent again" in out
    assert path.read_bytes().endswith(b"}\n{broken\n")
    assert not [*path.parent.glob("*.damaged-*")]


def test_show_tells_payload_reason_and_history(site: Path, reprocess: Reprocess) -> None:
    reprocess("run", "--yes", "--operator", "radar")
    first, again = ENTRIES[6], ENTRIES[5]
    out = reprocess("show", first.dlq_id[:20].upper()).out
    assert '"idSensor": "RAD-001"' in out
    assert "unknown sensor: idSensor 'X'" in out
    assert name(again) in out
    assert out.rstrip().splitlines()[-1].split()[1:5] == [name(again), name(first), TOPIC, "2"]
    broken = reprocess("show", ENTRIES[1].dlq_id).out
    assert "\\xff{broken" in broken
    assert "this release refuses it again: not JSON" in broken
    told = orjson.loads(reprocess("show", first.dlq_id, "--json").out)
    assert [life["dlq_id"] for life in told["lives"]] == [first.dlq_id, again.dlq_id]
    assert told["payload"]["idSensor"] == "RAD-001"


def test_show_raw_is_the_original_bytes(
    site: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with pytest.raises(SystemExit):
        main(["show", ENTRIES[1].dlq_id, "--raw"])
    assert capfdbinary.readouterr().out == b"\xff{broken"


def test_unknown_versions_and_damage_are_named(site: Path, reprocess: Reprocess) -> None:
    path = site / "state/dlq/2026-11-22-1.jsonl"
    lines = [old_line(entry(20)), b'{"schema_version":9}\n', b"{}\n", b'{"schema_version":9}\n']
    path.write_bytes(b"".join(lines))
    found = orjson.loads(reprocess("--dry-run", "--json").out)["summary"]
    assert (found["entries"], found["selected"]) == (9, 9), "version 1 is read"
    assert found["unknown_versions"] == [
        {"schema_version": 9, "entries": 2, "where": [f"{path.name}:2", f"{path.name}:4"]}
    ]
    assert [(d["file"], d["line"]) for d in found["damaged"]] == [(path.name, 3)]
    out = reprocess("--dry-run").out
    assert "2 entries of the unknown schema version 9 (2026-11-22-1.jsonl:2" in out
    assert "2026-11-22-1.jsonl line 3: " in out
    assert "schema version is 9" in reprocess("list").err
