"""What a plan comes to: counts, what could not be read, warnings; for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sda_pipeline.cli.reprocess.broker_front import Front
from sda_pipeline.cli.reprocess.pipeline_place import Judges
from sda_pipeline.cli.reprocess.plain_text import plain
from sda_pipeline.dlq.reading import Skipped
from sda_pipeline.dlq.redrive import Outcome, Verdict
from sda_pipeline.limits import SECOND_NS

WHERE_MAX = 20  # lines of one unknown version that are named
_MEANING = {
    Verdict.REINJECT: "judged like any other record",
    Verdict.LATE: "below the watermark: counted late, no alert changes",
    Verdict.REFUSED: "by this release, catalogue and sensors; an attempt more, no alert changes",
    Verdict.KNOWN: "taken or sent before",
    Verdict.CAME_BACK: "refused again: its newer entry stands for it",
    Verdict.SKIPPED: "see the reasons above",
}


def summary_of(
    outcomes: Sequence[Outcome], total: int, unreadable: Sequence[Skipped], judges: Judges,
    fronts: Mapping[str, Front],
) -> dict[str, Any]:  # fmt: skip
    """Counts by verdict, what could not be read and by which version, and warnings."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    late = [o.late_by_ns / SECOND_NS for o in outcomes if o.verdict is Verdict.LATE]
    asked = {o.facts.reader for o in outcomes if o.sends}
    fronts = {source: front for source, front in fronts.items() if source in asked}
    return {
        "entries": total,
        "selected": len(outcomes),
        "sends": sum(outcome.sends for outcome in outcomes),
        "forced": sum(o.sends for o in outcomes if o.verdict is Verdict.KNOWN),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict},
        "late_by_s": {"least": min(late), "most": max(late)} if late else None,
        "refused_again": verdicts[Verdict.REFUSED],
        "unconfirmed": sum(o.unconfirmed and o.sends for o in outcomes),
        "unknown_versions": _unknown(unreadable),
        "damaged": [
            {"file": s.file, "line": s.line, "why": s.why} for s in unreadable if s.version is None
        ],
        "waiting": {source: front.waiting for source, front in fronts.items()},
        "warnings": [*_warnings(outcomes, judges), *_at_the_broker(outcomes, fronts)],
    }


def _unknown(unreadable: Sequence[Skipped]) -> list[dict[str, Any]]:
    where: dict[int, list[str]] = {}
    for skipped in unreadable:
        if skipped.version is not None:
            where.setdefault(skipped.version, []).append(f"{skipped.file}:{skipped.line}")
    return [
        {"schema_version": version, "entries": len(lines), "where": lines[:WHERE_MAX]}
        for version, lines in sorted(where.items())
    ]


def _warnings(outcomes: Sequence[Outcome], judges: Judges) -> Iterable[str]:
    sends = [outcome for outcome in outcomes if outcome.sends]
    if judges.changed:
        how = "restart" if judges.running else "start"
        yield (
            "catalogue, sensors or physics are not those the state was built with: "
            f"{how} it with 'sda-supervisor start --accept-catalogue' first"
        )
    if sends and not judges.running:
        yield "the pipeline does not run: what is sent waits at the broker until it is started"
    again = sum(outcome.verdict is Verdict.REFUSED for outcome in sends)
    if again:
        yield f"{again} of {len(sends)} will be refused again, with one attempt more"
    if any(outcome.entry.error_kind == "Quarantined" for outcome in sends):
        yield "quarantined records killed their operator; each may kill it three times again"


def _at_the_broker(outcomes: Sequence[Outcome], fronts: Mapping[str, Front]) -> Iterable[str]:
    """The lateness told is by the logs; what the sources will log before can only add to it."""
    for source, front in sorted(fronts.items()):
        if front.why:
            yield (
                f"it is not known how much waits at the broker before them for {source} "
                f"({front.why}): more may be late, and by more, than is told here"
            )
        elif front.waiting:
            yield (
                f"up to {front.waiting} messages wait at the broker before them for {source}: "
                "more may be late, and by more, than is told here"
            )
    moved = sum(outcome.moves for outcome in outcomes)
    if moved:
        yield (
            f"the keys of {moved} lead to another partition than they were refused in; "
            "their lateness is told for that one"
        )


def summary_text(summary: dict[str, Any]) -> str:
    """The same for a person."""
    rows = [
        (verdict, str(count), _meaning(Verdict(verdict), summary) if count else "")
        for verdict, count in summary["verdicts"].items()
    ]
    rows.append(("to be sent", str(summary["sends"]), ""))
    names, numbers = (max(map(len, column)) for column in list(zip(*rows, strict=True))[:2])
    lines = [f"{summary['selected']} of {summary['entries']} entries are meant"]
    lines += [
        f"  {name:<{names}}  {number:>{numbers}}  {says}".rstrip() for name, number, says in rows
    ]
    lines += map(_unknown_text, summary["unknown_versions"])
    lines += [
        f"skipped: {d['file']} line {d['line']}: {plain(d['why'])}" for d in summary["damaged"]
    ]
    lines += [f"warning: {plain(warning)}" for warning in summary["warnings"]]
    return "\n".join(lines)


def _meaning(verdict: Verdict, summary: dict[str, Any]) -> str:
    says = _MEANING[verdict]
    if verdict is Verdict.LATE:
        least, most = (f"{summary['late_by_s'][bound]:.3f}" for bound in ("least", "most"))
        return f"{says}; by {least} s" if least == most else f"{says}; by {least} to {most} s"
    if verdict is Verdict.KNOWN and summary["forced"]:
        return f"{says}; {summary['forced']} sent all the same, to count as duplicate or late"
    return says


def _damaged_text(found: dict[str, Any]) -> str:
    return f"skipped: {found['file']} line {found['line']}: {plain(found['why'])}"


def _unknown_text(found: dict[str, Any]) -> str:
    more = ", ..." if found["entries"] > len(found["where"]) else ""
    return (
        f"skipped: {found['entries']} entries of the unknown schema version "
        f"{found['schema_version']} ({', '.join(found['where'])}{more}); "
        "use the release that wrote them"
    )
