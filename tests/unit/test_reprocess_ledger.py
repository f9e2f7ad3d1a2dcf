"""The ledger of re-injections: intent, end, one writer, damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sda_pipeline.dlq.redrive import Intent
from sda_pipeline.dlq.reprocess_ledger import FILE_NAME, ReprocessLedger, read_sendings
from sda_pipeline.errors import AlreadyRunning, ExitCode, StateCorrupt

INTENTS = [Intent(f"{k:032x}", f"{k:032x}", "topic", 1, "re-injected") for k in range(3)]


def test_a_run_is_its_intents_and_their_ends(tmp_path: Path) -> None:
    assert read_sendings(tmp_path) == []
    with ReprocessLedger(tmp_path) as ledger:
        first = ledger.intend(INTENTS[:2], 10)
        ledger.complete(first, 20)
        ledger.intend(INTENTS[2:], 30)
    with ReprocessLedger(tmp_path) as ledger:
        (again,) = ledger.intend(INTENTS[2:], 40)
        found = [*ledger.sendings()]
    assert found == read_sendings(tmp_path)
    assert [(s.id, s.run, s.dlq_id, s.intent_ns, s.done_ns) for s in found] == [
        (1, 1, INTENTS[0].dlq_id, 10, 20),
        (2, 1, INTENTS[1].dlq_id, 10, 20),
        (3, 1, INTENTS[2].dlq_id, 30, None),
        (4, 2, INTENTS[2].dlq_id, 40, None),
    ]
    assert again == found[-1]


def test_one_writer_and_readers_beside_it(tmp_path: Path) -> None:
    with ReprocessLedger(tmp_path) as ledger:
        ledger.intend(INTENTS, 1)
        assert len(read_sendings(tmp_path)) == 3
        with pytest.raises(AlreadyRunning, match="another sda-reprocess") as refused:
            ReprocessLedger(tmp_path)
        assert refused.value.exit_code == ExitCode.ALREADY_RUNNING
    ReprocessLedger(tmp_path).close()


@pytest.mark.parametrize("column", ["run", "dlq_id", "root", "topic", "attempts", "done_ns"])
def test_a_changed_row_is_seen(column: str, tmp_path: Path) -> None:
    with ReprocessLedger(tmp_path) as ledger:
        ledger.complete(ledger.intend(INTENTS, 1), 2)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(f"UPDATE sendings SET {column} = 77 WHERE id = 2")
    database.commit()
    database.close()
    with pytest.raises(StateCorrupt, match=r"sending 2 of reprocess\.sqlite"):
        read_sendings(tmp_path)


def test_a_damaged_file_leaves_the_lock_free(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(StateCorrupt, match="move it aside"):
            ReprocessLedger(tmp_path)
