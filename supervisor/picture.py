"""The topology as a picture: text for a terminal, Mermaid for a document. Pure."""

from __future__ import annotations

from sda_pipeline.limits import MIB
from sda_pipeline.topology import SOURCE_KINDS, Topology

_COLUMN = 20


def as_text(topology: Topology) -> str:
    """Sources side by side, the chain below them, then every edge with its capacity."""
    sources = topology.sources
    width = _COLUMN * len(sources)
    topics = [topology.operator(source).topic or "" for source in sources]
    chain = _chain(topology)
    lines = [f"{topology.pipeline}   broker {topology.broker}", ""]
    lines += [_row(topics), _row(["|"] * len(sources)), _row([f"[{name}]" for name in sources])]
    if len(sources) > 1:
        inner = width - _COLUMN - 1
        bar = "'" + "+".center(inner, "-") + "'"
        lines.append(bar.center(width))
    beside = {"correlator": " . . . [replicator]"}
    for i, name in enumerate(chain):
        if i or len(sources) == 1:
            lines.append("|".center(width))
        lines.append(f"[{name}]".center(width).rstrip() + beside.get(topology.kind_of(name), ""))
    lines += ["", f"{', '.join(sources)} --(rejects)--> [dlq-sink]", ""]
    size = max(len(edge.name) for edge in topology.edges)
    lines += [
        f"{edge.name:<{size}}  {edge.capacity_bytes / MIB:g} MiB  {edge.policy}"
        for edge in topology.edges
    ]
    return "\n".join(line.rstrip() for line in lines)


def as_mermaid(topology: Topology) -> str:
    """A Mermaid flowchart; arrows are rings, dotted ones are not."""
    lines = ["flowchart TD"]
    lines += [f"    {spec.name}[{spec.name}]" for spec in topology.operators]
    for spec in topology.operators:
        if spec.topic:
            lines.append(f"    topic_{spec.name}([{spec.topic}]) -.-> {spec.name}")
    rejects = {name for name in topology.names if topology.kind_of(name) == "dlq-sink"}
    for edge in topology.edges:
        label = f"rejects, {_mib(edge.capacity_bytes)}"
        text = label if edge.target in rejects else _mib(edge.capacity_bytes)
        lines.append(f"    {edge.source} -->|{text}| {edge.target}")
    for name in topology.names:
        if topology.kind_of(name) == "replicator":
            correlator = next(n for n in topology.names if topology.kind_of(n) == "correlator")
            lines.append(f"    {correlator} -.-> {name}")
    return "\n".join(lines)


def _chain(topology: Topology) -> list[str]:
    """From the operator all sources feed down to the subscriber."""
    chain, ahead = [], list(topology.sources[:1])
    while ahead:
        found = [
            edge.target
            for edge in topology.edges
            if edge.source == ahead[0] and topology.kind_of(edge.target) != "dlq-sink"
        ]
        chain += found
        ahead = found
    return [name for name in chain if topology.kind_of(name) not in SOURCE_KINDS]


def _row(cells: list[str]) -> str:
    return "".join(cell.center(_COLUMN) for cell in cells)


def _mib(size: int) -> str:
    return f"{size / MIB:g} MiB"
