"""The summary of a plan as a person reads it at 02:00."""

from __future__ import annotations

from dataclasses import replace

from sda_pipeline.cli.reprocess.pipeline_place import Judges
from sda_pipeline.cli.reprocess.reprocess_summary import summary_of, summary_text
from sda_pipeline.dlq.redrive import Facts, Outcome, decide
from tests.unit.redrive_rig import T0, TOPIC, entry

FACTS = Facts(TOPIC, "radar", event_ns=T0, edge_ns=T0)
S = 10**9


def text_of(*outcomes: Outcome) -> str:
    return summary_text(summary_of(outcomes, 20, [], Judges(7, 7, running=True), {}))


def late(number: int, by_ns: int) -> Outcome:
    return decide(entry(number), replace(FACTS, edge_ns=T0 + by_ns), force=False)


def test_it_reads_like_this() -> None:
    known = decide(entry(3), replace(FACTS, in_log=True), force=False)
    again = decide(entry(4), replace(FACTS, same_inputs=True), force=False)
    plain = decide(entry(5), FACTS, force=False)
    assert (
        text_of(late(1, 2 * S), late(2, 73_262_000_000), known, again, plain)
        == """\
5 of 20 entries are meant
  re-injected    1  judged like any other record
  late           2  below the watermark: counted late, no alert changes; by 2.000 to 73.262 s
  refused again  1  by this release, catalogue and sensors; an attempt more, no alert changes
  known          1  taken or sent before
  came back      0
  skipped        0
  to be sent     4
warning: 1 of 4 will be refused again, with one attempt more"""
    )


def test_one_lateness_is_no_span() -> None:
    assert "; by 73.262 s\n" in text_of(late(1, 73_262_000_000), late(2, 73_262_000_000))


def test_what_is_sent_by_force_says_what_becomes_of_it() -> None:
    forced = decide(entry(1), replace(FACTS, in_log=True), force=True)
    told = text_of(forced)
    assert "known          1  taken or sent before; 1 sent all the same, to count as" in told
    assert "to be sent     1" in told


def test_nothing_meant() -> None:
    assert text_of().startswith("0 of 20 entries are meant\n  re-injected    0\n")
