"""``sda-reprocess`` as a user calls it, on the files of a pipeline that does not run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import orjson
import pytest

from sda_pipeline.broker.connect import open_consumer
from sda_pipeline.broker.port import Batch
from sda_pipeline.dlq.redrive_headers import read_headers
from sda_pipeline.dlq.reprocess_ledger import ReprocessLedger
from tests.unit.redrive_rig import ENTRIES, TOPIC
from tests.unit.reprocess_cli_rig import Reprocess, name, reprocess, site

__all__ = ["reprocess", "site"]  # the fixtures


def messages(site: Path, topic: str = TOPIC) -> Batch:
    consumer = open_consumer(f"embedded:{site / 'broker'}", topic, "a-test", 1)
    try:
        return consumer.consume(1000, 1 << 20, 0.0)
    finally:
        consumer.close()


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
    assert "8 of 8 entries are meant" in out
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
        (["run", "--yes", "--rate", "0"], 2, "'0' is no rate: give records a second, above 0"),
        (["run", "--yes", "--rate", "nan"], 2, "'nan' is no rate"),
        (["run", "--yes", "--rate", "inf"], 2, "'inf' is no rate"),
        (["--state", "state", "--topology", "topology.yaml", "list"], 2, "give one of them"),
        (["run", "list"], 2, "unexpected extra argument (list)"),
        (["--state", "state", "nonsense"], 2, "no such command 'nonsense'"),
        (["show", "zz"], 2, "there is none in the DLQ"),
        (["show", ""], 2, "8 entries begin so"),
        *[
            (
                [*command, "--state", "nowhere"],
                3,
                "nowhere: there is none; name the state",
            )
            for command in (
                ["list"],
                ["run", "--dry-run"],
                ["run", "--yes"],
                ["ledger"],
                ["migrate"],
                ["show", "ab"],
            )
        ],
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("--state", "state", "list", "--json", "--operator", "radar"),
        ("--json", "--operator", "radar", "list", "--state=state"),
        ("list", "--json", "--operator", "radar"),
        ("--topology", "topology.yaml", "--operator", "radar", "--json", "list"),
    ],
)
def test_options_may_stand_before_the_command(
    arguments: tuple[str, ...], reprocess: Reprocess
) -> None:
    ran = reprocess(*arguments)
    assert (ran.code, len(ran.out.splitlines())) == (0, 6), ran.err
    assert reprocess("--operator", "list", "--dry-run").err.startswith(
        "cannot select entries of list"
    )


def test_what_was_never_started_does_not_look_like_no_rejects(
    site: Path, reprocess: Reprocess
) -> None:
    (site / "state/topology.json").rename(site / "elsewhere.json")
    for command in (["list"], ["run", "--dry-run"], ["run", "--yes"], ["ledger"], ["migrate"]):
        ran = reprocess(*command)
        assert (ran.code, ran.out) == (3, ""), command
        assert (
            "it has no topology.json; name the state directory of one that was started" in ran.err
        )


def test_a_trial_topic_is_made_and_counts_apart(site: Path, reprocess: Reprocess) -> None:
    first = orjson.loads(reprocess("run", "--yes", "--target-topic", "trial", "--json").out)
    assert first["sent"] == 5, "whoever refused it: no source need read that topic"
    assert len(messages(site, "trial").values) == 5
    assert messages(site).values == []
    again = orjson.loads(reprocess("run", "--yes", "--target-topic", "trial", "--json").out)
    assert again["sent"] == 0
    assert orjson.loads(reprocess("--dry-run", "--json").out)["summary"]["sends"] == 4


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


def test_rate_spreads_the_sending(site: Path, reprocess: Reprocess) -> None:
    ran = orjson.loads(reprocess("run", "--yes", "--rate", "7", "--json").out)
    assert ran["sent"] == 4
    rows = [orjson.loads(line) for line in reprocess("ledger", "--json").out.splitlines()]
    assert len({row["intent_ns"] for row in rows}) == 4, "one by one"
