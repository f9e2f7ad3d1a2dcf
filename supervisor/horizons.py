"""How far each source is durable: on this disk, and at the remote store. Pure; reads board words.

Local is what a crash or power loss leaves: the synced log. Remote is what the loss of this disk
leaves: the newest remote snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sda_pipeline.limits import TIME_END_NS
from sda_pipeline.records.alert import EPOCH_SHIFT
from sda_pipeline.topology import S3Settings
from sda_pipeline.vocabulary import BreakerState, RemoteFault
from supervisor.journal import stamp

_SIGN = 1 << 63
_RUNGS = ("local", "snapshot", "remote", "fresh")

Words = Mapping[str, int]


def time_of(word: int) -> str | None:
    """An event time on the board as text; None when nothing is known, or it is the end of time."""
    word -= 2 * _SIGN if word >= _SIGN else 0  # the word holds an i8
    return stamp(word) if 0 < word < TIME_END_NS else None


def of_source(source: str, words: Words, s3: S3Settings | None) -> dict[str, Any]:
    """Both horizons of one source: a position of its log, and the event time it had there."""
    found: dict[str, Any] = {
        "local": {
            "position": words[f"{source}.log_end"],
            "event_time": time_of(words[f"{source}.watermark"]),
            "snapshot": words[f"{source}.snapshot_new"],
        },
        "remote": None,
    }
    if s3 is not None:
        reached = _durable(words, source, words[f"{source}.log_id"])
        found["remote"] = {
            "position": reached,
            "event_time": time_of(words[f"{source}.remote_time"]) if reached else None,
            "oldest": words[f"{source}.remote"],
            "behind": max(0, words[f"{source}.log_end"] - reached),
            "lost_before": words[f"{source}.horizon_lost"] or None,
        }
    return found


def of_remote(words: Words, s3: S3Settings | None) -> dict[str, Any] | None:
    """The remote store as a whole; None when there is none."""
    if s3 is None:
        return None
    fault = RemoteFault(words["upload_fault"])
    return {
        "bucket": s3.bucket,
        "prefix": s3.prefix,
        "sequence": words["remote_seq"],
        "taken_at": _stamp(words["remote_at"]),
        "breaker": BreakerState(words["breaker"]).name.lower(),
        "uploaded_at": _stamp(words["uploaded_at"]),
        "failed_at": _stamp(words["upload_failed_at"]),
        "fault": None if fault is RemoteFault.NONE else fault.name.lower(),
        "prune_failed_at": _stamp(words["prune_failed_at"]),
    }


def recoveries(words: Words) -> dict[str, int]:
    """How often each rung of the ladder served since the state directory was made."""
    return {rung: words[f"recovered_{rung}"] for rung in _RUNGS}


def remote_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The remote store for a terminal."""
    if found is None:
        return ["remote: none configured, the snapshots stay on this disk"]
    where, last = f"s3://{found['bucket']}/{found['prefix']}", found["uploaded_at"] or "-"
    line = f"remote: {where}, last upload {last}, breaker {found['breaker']}"
    if found["fault"]:
        line += f", the last attempt failed at {found['failed_at']}: {found['fault']}"
    lines = [line]
    if found["fault"] == RemoteFault.CONFLICT.name.lower():
        lines.append(
            "nothing is uploaded: 'sda-supervisor logs replicator' says why and what to do"
        )
    if found["prune_failed_at"]:
        lines.append(
            f"old snapshots there are not deleted since {found['prune_failed_at']}: give the "
            "right to delete, or let the store expire them"
        )
    return lines


def _stamp(word: int) -> str | None:
    return stamp(word) if word else None


class Target(NamedTuple):
    """What one source had accepted at the time of asking."""

    log_id: int
    log_end: int


def targets(before: Words, words: Words, sources: Sequence[str]) -> dict[str, Target] | None:
    """What is to be at the remote; None while a source has not said where it stands.

    ``before`` was read earlier: a source writes its position before it says that it is ready, and
    one reading may have seen the one without the other.
    """
    found = {s: Target(words[f"{s}.log_id"], words[f"{s}.log_end"]) for s in sources}
    for source, target in found.items():
        told = before[f"{source}.ready"] and words[f"{source}.ready"]
        same = target.log_id == before[f"{source}.log_id"] != 0
        if not told or not same or target.log_end < before[f"{source}.log_end"]:
            return None
    return found


def behind(words: Words, wanted: Mapping[str, Target]) -> dict[str, int]:
    """How many positions of each source are not yet covered by a remote snapshot."""
    missing = {s: t.log_end - _durable(words, s, t.log_id) for s, t in wanted.items()}
    return {source: count for source, count in missing.items() if count > 0}


def _durable(words: Words, source: str, log_id: int) -> int:
    """Up to which position of the log ``log_id`` the newest remote snapshot of it reaches.

    One of an older epoch counts for nothing: a recovery has since begun behind another, so it may
    be the one that did not serve. The replicator has a new one taken at its next cadence.
    """
    same_log = words[f"{source}.remote_log"] == log_id
    same_epoch = words[f"{source}.remote_by"] >> EPOCH_SHIFT == words["epoch"]
    return words[f"{source}.remote_new"] if log_id and same_log and same_epoch else 0


def replaced(words: Words, wanted: Mapping[str, Target]) -> list[str]:
    """Sources whose log was made anew since: their positions no longer say the same."""
    return [s for s, t in wanted.items() if words[f"{s}.log_id"] not in {0, t.log_id}]
