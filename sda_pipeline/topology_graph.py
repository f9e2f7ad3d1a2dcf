"""Operators and edges of ``topology.yaml``: names, kinds, restart policies, who reads from whom.

Part of reading the file, so every fault carries line and column; the plan of a run is in
supervisor/plan.py.
"""

from __future__ import annotations

from typing import NamedTuple

from sda_pipeline import limits
from sda_pipeline.limits import MIB
from sda_pipeline.ring.layout import CAPACITY_MAX, frame_bytes_max, rounded_capacity
from sda_pipeline.topology import (
    INPUT_KINDS,
    OPERATOR_KINDS,
    POLICIES,
    SOURCE_KINDS,
    SUPERVISOR,
    EdgeSpec,
    OperatorSpec,
)
from sda_pipeline.topology_yaml import Node, Reader, Section

NAME = r"[a-z][a-z0-9-]{0,30}"  # of operators: they become file names and board words
TOPIC = r"[A-Za-z0-9._-]{1,200}"
SOURCES_MAX = 64
WINDOW_S_MAX = 86_400.0
BACKOFF_S_MAX = 3600.0

# Ring sizes. A ring takes at least four of the largest frame of its edge, with the frame's head.
ROW_EDGE_BYTES, OUTBOX_EDGE_BYTES, REJECT_EDGE_BYTES = 16 * MIB, 4 * MIB, 8 * MIB
_HEAD_BYTES_MAX = 256
_ROW_FRAME_MAX = limits.FRAME_BYTES_MAX + _HEAD_BYTES_MAX
_OUTBOX_FRAME_MAX = 64 * limits.KIB
_REJECT_FRAME_MAX = limits.REJECT_CHUNK_BYTES + _HEAD_BYTES_MAX


class Placed(NamedTuple):
    """An operator as written, and where its names stand in the file."""

    spec: OperatorSpec
    section: Section
    inputs: list[tuple[str, Node]]


def parse_operators(reader: Reader, root: Section) -> list[Placed]:
    """The operators of the file; faults in names, kinds, topics and inputs go to the reader."""
    if not root.has("operators"):
        root.fault("operators", "is required")
        return []
    placed = [_operator(section) for section in root.sections("operators")]
    _check_unique(placed)
    for kind in sorted(OPERATOR_KINDS - set(SOURCE_KINDS) - {spec.kind for spec, _, _ in placed}):
        root.fault("operators", f"the operator {kind} is missing")
    sources = sum(spec.kind in SOURCE_KINDS for spec, _, _ in placed)
    if not 1 <= sources <= SOURCES_MAX:
        root.fault("operators", f"there are {sources} sources; 1 to {SOURCES_MAX} are needed")
    _check_inputs(reader, placed)
    return placed


def _check_unique(placed: list[Placed]) -> None:
    seen: dict[str, tuple[int, int]] = {}
    for index, (spec, section, _) in enumerate(placed):
        line = section.node.start_mark.line + 1 if section.node else 0
        kind = "" if spec.kind in SOURCE_KINDS else spec.kind
        for key, value in (("name", spec.name), ("topic", spec.topic), ("kind", kind)):
            if value:
                first, first_line = seen.setdefault(f"{key} {value}", (index, line))
                if first != index:
                    why = f"{value} is already in line {first_line}"
                    section.fault(key, why + ("; only sources may be several" * (key == "kind")))


def _operator(section: Section) -> Placed:
    name = section.text("name", pattern=NAME)
    if name == SUPERVISOR:
        section.fault("name", f"{name!r} is the name of the supervisor's own log")
    kind = section.choice("kind", name, sorted(OPERATOR_KINDS))
    if not section.has("kind") and kind not in OPERATOR_KINDS:
        section.fault("kind", f"is required where the name ({name!r}) is not itself a kind")
    topic = None
    if kind in SOURCE_KINDS:
        topic = section.text("topic", pattern=TOPIC)
    elif section.has("topic") and kind in OPERATOR_KINDS:
        section.fault("topic", f"only sources have one, not a {kind}")
    inputs = section.texts("inputs")
    restart = section.section("restart")
    default = OperatorSpec("", "")
    backoff = restart.number("backoff_s", default.backoff_s, low=0, high=BACKOFF_S_MAX)
    spec = OperatorSpec(
        name,
        kind,
        topic,
        tuple(text for text, _ in inputs),
        backoff,
        restart.number(
            "backoff_max_s", max(backoff, default.backoff_max_s), low=backoff, high=BACKOFF_S_MAX
        ),
        restart.whole("budget_deaths", default.budget_deaths, low=1, high=1_000_000),
        restart.number("budget_window_s", default.budget_window_s, low=0.1, high=WINDOW_S_MAX),
    )
    restart.close()
    section.close()
    return Placed(spec, section, inputs)


def _check_inputs(reader: Reader, placed: list[Placed]) -> None:
    """Every operator reads exactly what its kind reads (DESIGN 2)."""
    kinds = {item.spec.name: item.spec.kind for item in placed}
    for spec, section, inputs in placed:
        if spec.kind not in INPUT_KINDS:
            continue
        accepted = INPUT_KINDS[spec.kind]
        wanted = {
            name
            for name, kind in kinds.items()
            if (kind in SOURCE_KINDS if accepted is None else kind in accepted)
        }
        for name, node in inputs:
            if name not in kinds:
                reader.fault(node, section.at("inputs"), f"there is no operator {name!r}")
            elif name not in wanted:
                text = ", ".join(sorted(wanted)) or "nothing"
                reader.fault(
                    node, section.at("inputs"), f"a {spec.kind} reads {text}, not {name!r}"
                )
        if len(set(spec.inputs)) != len(spec.inputs):
            section.fault("inputs", "names an operator twice")
        missing = sorted(wanted - set(spec.inputs))
        if missing:
            section.fault("inputs", f"{', '.join(missing)} must be among the inputs")


def parse_edges(section: Section, placed: list[Placed]) -> tuple[EdgeSpec, ...]:
    """One edge for each input of each operator, with the settings given for it."""
    kinds = {item.spec.name: item.spec.kind for item in placed}
    settings = dict(section.named_sections())
    edges = []
    for spec, _, _ in placed:
        for source in spec.inputs:
            name = f"{source}->{spec.name}"
            chosen = settings.pop(name, None) or Section(section.reader, None, section.at(name))
            edges.append(_edge(chosen, name, source, spec.name, kinds))
            chosen.close()
    for name in settings:
        section.fault(name, "no operator has such an input")
    return tuple(edges)


def _edge(section: Section, name: str, source: str, target: str, kinds: dict[str, str]) -> EdgeSpec:
    if kinds[target] in ("alert-sink", "subscriber"):
        default, frame = OUTBOX_EDGE_BYTES, _OUTBOX_FRAME_MAX
    elif kinds[target] == "dlq-sink":
        default, frame = REJECT_EDGE_BYTES, _REJECT_FRAME_MAX
    else:
        default, frame = ROW_EDGE_BYTES, _ROW_FRAME_MAX
    capacity = section.size("capacity", default, high=CAPACITY_MAX)
    if frame_bytes_max(capacity) < frame:
        low = limits.RING_FRAMES_MIN * frame
        section.fault("capacity", f"{capacity} bytes are below {low}, four of its largest frames")
    policy = section.choice("policy", POLICIES[0], POLICIES)
    return EdgeSpec(name, source, target, rounded_capacity(capacity), policy)
