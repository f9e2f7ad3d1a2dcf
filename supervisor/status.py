"""What ``status`` tells: the tree, the board and the rings as one plain mapping, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sda_pipeline.limits import SECOND_NS
from sda_pipeline.ring.board import UNKNOWN
from supervisor import horizons
from supervisor.health import step_name
from supervisor.journal import stamp
from supervisor.members import Member
from supervisor.tree import Tree
from supervisor.wiring import Wiring

_OPERATOR_COLUMNS = ("name", "state", "pid", "restarts", "step", "silent_s", "last_exit")


def status(
    tree: Tree, wiring: Wiring, pids: Mapping[str, int], supervisor_pid: int, now: int
) -> dict[str, Any]:
    """The answer of ``status --json`` (SPEC 8). ``now`` is monotonic ns."""
    words = wiring.board.snapshot()
    topology = tree.topology
    return {
        "supervisor": {
            "pid": supervisor_pid,
            "state": tree.phase.value,
            "pipeline": topology.pipeline,
            "rewinds": tree.rewinds.count,
            "edge_rewinds_total": tree.rewinds.count,  # the same, by its name as a metric
        },
        "operators": [
            _operator(member, words, pids.get(name), now) for name, member in tree.members.items()
        ],
        "edges": [
            {
                "name": edge.name,
                "capacity_bytes": edge.capacity_bytes,
                "occupied_bytes": wiring.occupied(edge.name),
                "policy": edge.policy,
            }
            for edge in topology.edges
        ],
        "sources": [
            _source(source, words) | horizons.of_source(source, words, topology.s3)
            for source in topology.sources
        ],
        "checkpoint": {
            "epoch": words["epoch"],
            "outbox_end": words["outbox_end"],
            "sink_pos": words["sink_pos"],
            "sub_pos": words["sub_pos"],
            "dirty": words["dirty"],
            "snapshot_sequence": words["snapshot_seq"],
            "snapshot_at": stamp(words["snapshot_at"]) if words["snapshot_at"] else None,
            "remote": horizons.of_remote(words, topology.s3),
            "recoveries": horizons.recoveries(words),
        },
    }


def _operator(
    member: Member, words: Mapping[str, int], pid: int | None, now: int
) -> dict[str, Any]:
    name = member.spec.name
    heartbeat = words[f"{name}.heartbeat"]
    return {
        "name": name,
        "kind": member.spec.kind,
        "pid": pid,
        "state": member.state.value,
        "restarts": member.restarts,
        "incarnation": member.incarnation,
        "step": step_name(words[f"{name}.step"]),
        "silent_s": round((now - heartbeat) / SECOND_NS, 3) if pid and heartbeat else None,
        "uptime_s": round((now - member.spawned_at) / SECOND_NS, 3) if pid else None,
        "events": words[f"{name}.events"],
        "last_exit": member.last_exit or None,
    }


def _source(source: str, words: Mapping[str, int]) -> dict[str, Any]:
    lag = words[f"{source}.lag"]
    return {
        "name": source,
        "log_end": words[f"{source}.log_end"],
        "applied": words[f"{source}.applied"],
        "dlq_done": words[f"{source}.dlq_done"],
        "lag": None if lag == UNKNOWN else lag,
        "missing": words[f"{source}.missing"],
        "log_id": f"{words[f'{source}.log_id']:016x}",
        "watermark": horizons.time_of(words[f"{source}.watermark"]),
        "ended": bool(words[f"{source}.ended"]),
    }


def status_text(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    head = found["supervisor"]
    lines = [f"{head['pipeline']}: {head['state']}, pid {head['pid']}, {head['rewinds']} rewinds"]
    lines += table(
        ("operator", "state", "pid", "restarts", "step", "silent s", "last exit"),
        [
            (
                o["name"],
                o["state"],
                o["pid"],
                o["restarts"],
                o["step"],
                o["silent_s"],
                o["last_exit"],
            )
            for o in found["operators"]
        ],
    )
    lines += table(
        ("source", "lag", "missing", "logged", "applied", "rejects done", "watermark"),
        [
            (s["name"], s["lag"], s["missing"], s["log_end"], s["applied"], s["dlq_done"],
             "ended" if s["ended"] else s["watermark"])
            for s in found["sources"]
        ],
    )  # fmt: skip
    lines += table(
        ("edge", "used", "of MiB"),
        [
            (
                edge["name"],
                f"{edge['occupied_bytes'] / edge['capacity_bytes']:.0%}",
                f"{edge['capacity_bytes'] / (1 << 20):g}",
            )
            for edge in found["edges"]
        ],
    )
    point = found["checkpoint"]
    stands = {name: _position(point[name]) for name in ("outbox_end", "sink_pos", "sub_pos")}
    lines += [
        "",
        "alerts: outbox {outbox_end}, sink {sink_pos}, subscriber {sub_pos}".format(**stands),
        f"last snapshot: {point['snapshot_at'] or '-'}",
        *horizons.remote_lines(point["remote"]),
    ]
    if point["remote"] is not None:
        lines += table(
            ("source", "local", "event time", "remote", "event time", "behind", "lost before"),
            [_horizon_row(source) for source in found["sources"]],
        )
    return "\n".join(lines)


def _horizon_row(source: Mapping[str, Any]) -> tuple[Any, ...]:
    local, remote = source["local"], source["remote"]
    return (
        source["name"], local["position"], local["event_time"], remote["position"],
        remote["event_time"], remote["behind"], remote["lost_before"],
    )  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Left-aligned columns under their heads, after an empty line; ``-`` for None."""
    cells = [[*map(str, head)], *(["-" if cell is None else str(cell) for cell in r] for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [""]
    for row in cells:
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append(text.rstrip())
    return lines


def _position(word: int) -> str:
    return f"{word >> 32}:{word & 0xFFFF_FFFF}"
