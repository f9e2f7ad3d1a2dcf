"""``sda-reprocess`` as a user calls it, on the files of a pipeline that does not run."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.broker.port import Batch
from sda_pipeline.cli.reprocess.reprocess_cli import main
from sda_pipeline.dlq.entry import Entry
from sda_pipeline.dlq.redrive_headers import read_headers
from sda_pipeline.dlq.reprocess_ledger import ReprocessLedger
from tests.unit.redrive_rig import ENTRIES, TOPIC, entry, old_line, write_site


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Reprocess = Callable[..., Ran]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return write_site(tmp_path, ENTRIES)


@pytest.fixture
def reprocess(site: Path, capsys: pytest.CaptureFixture[str]) -> Reprocess:
    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def messages(site: Path, topic: str = TOPIC) -> Batch:
    consumer = open_consumer(f"embedded:{site / 'broker'}", topic, "a-test", 1)
    try:
        return consumer.consume(1000, 1 << 20, 0.0)
    finally:
        consumer.close()


def name(found: Entry) -> str:
    return found.dlq_id[:12]


def test_a_dry_run_tells_everything_and_sends_nothing(site: Path, reprocess: Reprocess) -> None:
    before = sorted(path for path in site.rglob("*"))
    code, out, _ = reprocess("--dry-run")
    assert code == 0
    verdicts = {line.split()[0]: line for line in out.splitlines() if line}
    assert " re-injected" in verdicts[name(ENTRIES[0])]
    assert "  refused again  not JSON" in verdicts[name(ENTRIES[1])]
    assert "skipped" in verdicts[name(ENTRIES[2])]
    assert "after 3 re-injections: --force" in verdicts[name(ENTRIES[2])]
    assert "killed its operator" in verdicts[name(ENTRIES[3])]
    assert f"came back      refused again as {ENTRIES[5].dlq_id}" in verdicts[name(ENTRIES[6])]
    assert "no source reads topic sda.obs.gone" in verdicts[name(ENTRIES[7])]
    assert "8 of 8 entries" in out
    assert "the pipeline does not run" in out
    assert out.rstrip().endswith("nothing was sent")
    assert messages(site).values == []
    after = [
        p for p in sorted(site.rglob("*")) if not p.name.endswith((".mdb",)) and p not in before
    ]
    assert [p for p in after if "broker" not in str(p)] == []
    found = orjson.loads(reprocess("run", "--dry-run", "--json").out)
    assert (found["dry_run"], found["sent"], found["summary"]["sends"]) == (True, 0, 4)
    assert found["summary"]["verdicts"] == {
        "re-injected": 2, "late": 0, "refused again": 2, "known": 0, "came back": 1, "skipped": 3,
    }  # fmt: skip
    assert [e["dlq_id"] for e in found["entries"] if e["sends"]] == [
        ENTRIES[k].dlq_id for k in (0, 1, 4, 5)
    ]


def test_what_is_sent_is_the_original(site: Path, reprocess: Reprocess) -> None:
    assert reprocess("run", "--yes", "--operator", "radar").code == 0
    got = messages(site)
    sent = [ENTRIES[0], ENTRIES[1], ENTRIES[5]]
    assert got.values == [e.original_payload for e in sent]
    assert got.keys == [e.key_bytes for e in sent]
    assert got.timestamps_ms.tolist() == [e.message_timestamp_ms for e in sent]
    assert [read_headers(h) for h in got.headers] == [(e.root, e.attempts + 1) for e in sent]
    again = orjson.loads(reprocess("run", "--yes", "--operator", "radar", "--json").out)
    assert (again["sent"], again["summary"]["verdicts"]["known"]) == (0, 3)
    forced = orjson.loads(reprocess("run", "--yes", "--operator", "radar", "--force", "--json").out)
    assert forced["sent"] == 5
    assert len(messages(site).values) == 3 + 5
    assert any("quarantined records killed" in w for w in forced["summary"]["warnings"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--error-kind", "deserialization"], [2]),
        (["--error-kind", "Quarantined", "--error-kind", "Deserialization"], [2, 4]),
        (["--operator", "optical"], [5]),
        (["--since", "2026-11-23T12:00:05Z"], [60, 5, 6, 7]),
        (["--until", "1795435203000"], [1, 2]),
        (["--since", "1795435202000", "--until", "2026-11-23T12:00:04Z"], [2, 3]),
        (["--operator", "radar", "--since", "2026-11-23T12:00:04Z", "--error-kind",
          "Quarantined"], [4]),
        (["--since", "1s"], None),
    ],
)  # fmt: skip
def test_filters(arguments: list[str], expected: list[int] | None, reprocess: Reprocess) -> None:
    ran = reprocess("list", "--json", *arguments)
    assert ran.code == 0
    found = [orjson.loads(line)["offset"] for line in ran.out.splitlines()]
    assert sorted(found) == sorted(expected or [])
    planned = orjson.loads(reprocess("--dry-run", "--json", *arguments).out)
    assert planned["summary"]["selected"] == len(found)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run"], 2, "there is no terminal; give --yes, or --dry-run"),
        ([], 2, "there is no terminal"),
        (["--json", "--force"], 2, "there is no terminal"),
        (["run", "--dry-run", "--since", "soon"], 2, "'soon' is not a UTC time like"),
        (["run", "--dry-run", "--since", "1h", "--until", "2h"], 2, "--since is not before"),
        (["run", "--dry-run", "--error-kind", "Bad"], 2, "'Bad' is not one of 'deserialization'"),
        (["run", "--dry-run", "--operator", "rader"], 2, "there are gone, isl, optical, radar"),
        (["run", "--yes", "--target-topic", ""], 2, "'' is empty; leave the option out to send to"),
        (["run", "--yes", "--target-topic="], 2, "'' is empty; leave the option out"),
        (["run", "--yes", "--target-topic", " "], 2, "' ' is not the name of a topic"),
        (["run", "--yes", "--rate", "0"], 2, "0 is not in the range"),
        (["show", "zz"], 2, "there is none in the DLQ"),
        (["show", ""], 2, "8 entries begin so"),
        (["list", "--state", "nowhere"], 3, "name one that was started once"),
        (["list", "--topology", "none.yaml"], 3, "none.yaml"),
        (["nonsense"], 2, "no such command"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str], code: int, words: str, site: Path, reprocess: Reprocess
) -> None:
    ran = reprocess(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.startswith("cannot ")
    assert ran.err.count("\n") == 1
    assert messages(site).values == []


@pytest.mark.parametrize(("answer", "sent"), [("y\n", 4), ("n\n", 0), ("\n", 0)])
def test_it_asks_on_a_terminal(
    answer: str, sent: int, site: Path, reprocess: Reprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    ran = reprocess("run")
    assert ran.code == 0
    assert "Send 4 records to the topics they came from (2 of them will be refused again)?" in (
        ran.err
    )
    assert ran.out.rstrip().endswith(f"sent {sent} records" if sent else "nothing was sent")
    total = sum(len(messages(site, t).values) for t in (TOPIC, "sda.obs.optical"))
    assert total == sent


def test_a_trial_topic_is_made_and_counts_apart(site: Path, reprocess: Reprocess) -> None:
    first = orjson.loads(reprocess("run", "--yes", "--target-topic", "trial", "--json").out)
    assert first["sent"] == 5, "whoever refused it: no source need read that topic"
    assert len(messages(site, "trial").values) == 5
    assert messages(site).values == []
    again = orjson.loads(reprocess("run", "--yes", "--target-topic", "trial", "--json").out)
    assert again["sent"] == 0
    assert orjson.loads(reprocess("--dry-run", "--json").out)["summary"]["sends"] == 4


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


def test_the_ledger_is_printed(site: Path, reprocess: Reprocess) -> None:
    assert reprocess("ledger").out == ""
    reprocess("run", "--yes", "--operator", "radar")
    rows = [orjson.loads(line) for line in reprocess("ledger", "--json").out.splitlines()]
    assert [(r["run"], r["topic"], r["attempts"], r["expected"]) for r in rows] == [
        (1, TOPIC, 1, "re-injected"), (1, TOPIC, 1, "refused again"), (1, TOPIC, 2, "re-injected"),
    ]  # fmt: skip
    assert len(reprocess("ledger").out.splitlines()) == 4


def test_one_at_a_time(site: Path, reprocess: Reprocess) -> None:
    with ReprocessLedger(site / "state"):
        ran = reprocess("run", "--yes")
        assert (ran.code, messages(site).values) == (4, [])
        assert "another sda-reprocess" in ran.err
        assert reprocess("run", "--dry-run").code == 0, "looking is always possible"


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


def test_help_of_every_command(reprocess: Reprocess) -> None:
    for command in ("run", "list", "show", "ledger", "migrate"):
        ran = reprocess(command, "--help")
        assert ran.code == 0
        assert "--state" in ran.out
    assert "Commands:" in reprocess("--help").out


def test_rate_spreads_the_sending(site: Path, reprocess: Reprocess) -> None:
    ran = orjson.loads(reprocess("run", "--yes", "--rate", "7", "--json").out)
    assert ran["sent"] == 4
    rows = [orjson.loads(line) for line in reprocess("ledger", "--json").out.splitlines()]
    assert len({row["intent_ns"] for row in rows}) == 4, "one by one"
